#pragma once
// The model card: what `kvinfo -m MODEL` prints, and who a model is in META.

#include "kv/checkpoint/checkpoint.hh"
#include "kv/container/meta.hh"

#include <string>

namespace kv {

// Who made a cache. The tokenizer's fingerprint comes from its own library.
ModelIdentity identity_of(const Checkpoint& checkpoint, const std::string& tokenizer_fingerprint);

// One layer of META for each layer of the model.
std::vector<LayerMeta> layers_of(const ModelConfig& config);

std::string card_text(const Checkpoint& checkpoint);
std::string card_json(const Checkpoint& checkpoint);

}  // namespace kv
