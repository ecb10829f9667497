#include "recipe_stages.hh"

#include "blend_tool.hh"
#include "cat_tool.hh"
#include "decode_tool.hh"
#include "encode_tool.hh"
#include "kv/eval/recipe.hh"

#include <algorithm>
#include <array>
#include <set>

namespace kv {
namespace {

// What a stage has to tell it tells once, not for every prompt.
struct Talk {
  bool quiet = false;
  std::set<std::vector<std::string>> told;
};
using Told = std::shared_ptr<Talk>;

Invocation between(Invocation call, const MemoryFile& from, const MemoryFile& to,
                   const Told& told) {
  call.quiet = !told->told.insert(call.arguments).second || told->quiet || call.quiet;
  call.input = from.path();
  call.output = [&to] { return to.output(); };
  return call;
}

// A tool that runs no model.
template <typename Options>
class CodecStage : public Stage {
 public:
  using Body = int (*)(const Options&, const Invocation&);
  CodecStage(Options options, Invocation call, Body body, Told told)
      : options_(std::move(options)), call_(std::move(call)), body_(body), told_(std::move(told)) {}

  bool in_process() const override { return true; }
  bool fuses() const override { return false; }
  std::optional<StageWork> run(const MemoryFile& from, const MemoryFile& to) override {
    body_(options_, between(call_, from, to, told_));
    return StageWork{};
  }

 private:
  Options options_;
  Invocation call_;
  Body body_;
  Told told_;
};

class BlendStage : public Stage {
 public:
  BlendStage(BlendOptions options, Invocation call, const Session& session, Told told)
      : options_(std::move(options)),
        call_(std::move(call)),
        session_(session),
        told_(std::move(told)) {}

  bool in_process() const override { return true; }
  bool fuses() const override { return true; }
  std::optional<StageWork> run(const MemoryFile& from, const MemoryFile& to) override {
    FuseReport fused;
    blend(options_, between(call_, from, to, told_), &session_, &fused);
    return StageWork{fused.row_layers, fused.flops};
  }

 private:
  BlendOptions options_;
  Invocation call_;
  const Session& session_;
  Told told_;
};

using Words = std::vector<std::string>;

template <typename Options>
std::unique_ptr<Stage> codec_stage(const ToolInfo& info, const Words& words,
                                   void (*declare)(CLI::App&, Options&),
                                   int (*body)(const Options&, const Invocation&),
                                   const Told& told) {
  Options options;
  const Invocation call =
      parse_call(info, std::span(words).subspan(1), [&](CLI::App& app) { declare(app, options); });
  if (!options.output.path.empty()) return nullptr;
  return std::make_unique<CodecStage<Options>>(std::move(options), call, body, told);
}

// Null where it is the shell's.
std::unique_ptr<Stage> blend_stage(const Words& words, const Session& session,
                                   const ModelToolOptions& model, const Told& told) {
  BlendOptions options;
  bool of_its_own = false;
  const auto given = [&](const CLI::App& app) {
    constexpr std::array kOwn = {"--model", "--compute", "--device", "--threads",
                                 "--plan",  "--verify",  "--json",   "--stats"};
    return std::ranges::any_of(kOwn, [&](const char* name) { return app.count(name) > 0; });
  };
  const Invocation call = parse_call(kBlendInfo, std::span(words).subspan(1), [&](CLI::App& app) {
    declare_blend(app, options);
    app.get_option("--model")->required(false);
    app.final_callback([&app, &of_its_own, given] { of_its_own = given(app); });
  });
  if (of_its_own || !options.output.path.empty()) return nullptr;
  options.model = model;
  return std::make_unique<BlendStage>(std::move(options), call, session, told);
}

std::unique_ptr<Stage> stage_of(const StageText& stage, const Variables& variables,
                                const Session& session, const ModelToolOptions& model,
                                const Told& told) {
  const std::string tool = stage.words.empty() ? "" : stage.words.front();
  std::unique_ptr<Stage> inside;
  if (tool == "kvencode") {
    inside =
        codec_stage<EncodeOptions>(kEncodeInfo, stage.words, declare_encode, encode_body, told);
  } else if (tool == "kvdecode") {
    inside =
        codec_stage<DecodeOptions>(kDecodeInfo, stage.words, declare_decode, decode_body, told);
  } else if (tool == "kvcat") {
    inside = codec_stage<CatOptions>(kCatInfo, stage.words, declare_cat, cat_body, told);
  } else if (tool == "kvblend") {
    inside = blend_stage(stage.words, session, model, told);
  }
  return inside ? std::move(inside) : shell_stage(stage.text, variables);
}

}  // namespace

MakeStages recipe_stages(const Session& session, const ModelToolOptions& model, bool quiet) {
  const auto told = std::make_shared<Talk>(Talk{quiet, {}});
  return [&session, model, told](const std::string& recipe, const Variables& variables) {
    Stages stages;
    for (const StageText& stage : parse_recipe(recipe, variables)) {
      stages.push_back(stage_of(stage, variables, session, model, told));
    }
    return stages;
  };
}

}  // namespace kv
