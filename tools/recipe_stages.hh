#pragma once
// kveval's recipes: which of their stages run in its process, with the model that is there.

#include "kv/measure/stage.hh"
#include "kv/session/session.hh"
#include "model_options.hh"

namespace kv {

// In the process: kvencode, kvdecode, kvcat, and kvblend without -m, --compute, --device,
// --threads,
// --plan, --verify, --json and --stats; each with words and quotes only, and without -o. All else
// is the shell's. `session` outlives the result; `model` are the options that it was opened with.
// Each stage's notes are printed once, and none when `quiet`.
MakeStages recipe_stages(const Session& session, const ModelToolOptions& model, bool quiet);

}  // namespace kv
