#include "recipe_stages.hh"

#include "blend_tool.hh"
#include "cat_tool.hh"
#include "decode_tool.hh"
#include "encode_tool.hh"
#include "kv/eval/recipe.hh"

#include <algorithm>
#include <array>

namespace kv {
namespace {

Invocation between(Invocation call, const MemoryFile& from, const MemoryFile& to) {
  call.input = from.path();
  call.output = [&to] { return to.output(); };
  return call;
}

// A tool that runs no model.
template <typename Options>
class CodecStage : public Stage {
 public:
  using Body = int (*)(const Options&, const Invocation&);
  CodecStage(Options options, Invocation call, Body body)
      : options_(std::move(options)), call_(std::move(call)), body_(body) {}

  bool in_process() const override { return true; }
  bool fuses() const override { return false; }
  std::optional<StageWork> run(const MemoryFile& from, const MemoryFile& to) override {
    body_(options_, between(call_, from, to));
    return StageWork{};
  }

 private:
  Options options_;
  Invocation call_;
  Body body_;
};

class BlendStage : public Stage {
 public:
  BlendStage(BlendOptions options, Invocation call, const Session& session)
      : options_(std::move(options)), call_(std::move(call)), session_(session) {}

  bool in_process() const override { return true; }
  bool fuses() const override { return true; }
  std::optional<StageWork> run(const MemoryFile& from, const MemoryFile& to) override {
    FuseReport told;
    blend(options_, between(call_, from, to), &session_, &told);
    return StageWork{told.row_layers, told.flops};
  }

 private:
  BlendOptions options_;
  Invocation call_;
  const Session& session_;
};

using Words = std::vector<std::string>;

template <typename Options>
std::unique_ptr<Stage> codec_stage(const ToolInfo& info, const Words& words,
                                   void (*declare)(CLI::App&, Options&),
                                   int (*body)(const Options&, const Invocation&)) {
  Options options;
  const Invocation call =
      parse_call(info, std::span(words).subspan(1), [&](CLI::App& app) { declare(app, options); });
  if (!options.output.path.empty()) return nullptr;
  return std::make_unique<CodecStage<Options>>(std::move(options), call, body);
}

// Null where it is the shell's.
std::unique_ptr<Stage> blend_stage(const Words& words, const Session& session,
                                   const ModelToolOptions& model) {
  BlendOptions options;
  bool of_its_own = false;
  // Callbacks see what was given before the parser takes it, defaults do not count.
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
  return std::make_unique<BlendStage>(std::move(options), call, session);
}

std::unique_ptr<Stage> stage_of(const StageText& stage, const Variables& variables,
                                const Session& session, const ModelToolOptions& model) {
  const std::string tool = stage.words.empty() ? "" : stage.words.front();
  std::unique_ptr<Stage> inside;
  if (tool == "kvencode") {
    inside = codec_stage<EncodeOptions>(kEncodeInfo, stage.words, declare_encode, encode_body);
  } else if (tool == "kvdecode") {
    inside = codec_stage<DecodeOptions>(kDecodeInfo, stage.words, declare_decode, decode_body);
  } else if (tool == "kvcat") {
    inside = codec_stage<CatOptions>(kCatInfo, stage.words, declare_cat, cat_body);
  } else if (tool == "kvblend") {
    inside = blend_stage(stage.words, session, model);
  }
  return inside ? std::move(inside) : shell_stage(stage.text, variables);
}

}  // namespace

MakeStages recipe_stages(const Session& session, const ModelToolOptions& model) {
  return [&session, model](const std::string& recipe, const Variables& variables) {
    Stages stages;
    for (const StageText& stage : parse_recipe(recipe, variables)) {
      stages.push_back(stage_of(stage, variables, session, model));
    }
    return stages;
  };
}

}  // namespace kv
