// kvhash: the keys under which engines look for the cache of a prompt.

#include "kv/checkpoint/card.hh"
#include "kv/container/tile_source.hh"
#include "kv/convert/engine_keys.hh"
#include "kv/convert/ids.hh"
#include "kv/tokenizer/tokenizer.hh"
#include "tool.hh"

#include <algorithm>

namespace {

struct Options {
  std::vector<std::string> files;
  std::string engine = "vllm", model, seed = "0";
  bool text = false, ids = false, explain = false, special = false, bos = false, no_bos = false;
  std::int64_t block = 0;
};

void declare(CLI::App& app, Options& o) {
  app.add_option("file", o.files, "kv streams (default: -)")->type_name("FILE");
  app.add_option("--engine", o.engine, "vllm, vllm-blocks, lmcache, lmcache-mp or hicache")
      ->type_name("NAME");
  app.add_option("--block", o.block, "tokens of a block (default: the engine's)")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--seed", o.seed, "vllm-blocks, lmcache: its PYTHONHASHSEED (default: 0)")
      ->type_name("TEXT");
  app.add_flag("--ids", o.ids, "files hold token ids");
  app.add_flag("--text", o.text, "files hold text, of which -m makes ids")->excludes("--ids");
  app.add_option("-m,--model", o.model, "with --text: the model")->type_name("MODEL");
  app.add_flag("--bos", o.bos, "put BOS first (default: as the tokenizer does)");
  app.add_flag("--no-bos", o.no_bos, "put no BOS first")->excludes("--bos");
  app.add_flag("--special", o.special, "take spelled-out special tokens of texts as such");
  app.add_flag("--explain", o.explain,
               "of two files: where they part, and which blocks they share");
}

class Prompts {
 public:
  explicit Prompts(const Options& options) : o_(options) {
    if (o_.text == o_.model.empty()) kv::fail_usage("--text and -m MODEL: one needs the other");
    if (o_.text) {
      tokenizer_ = kv::Tokenizer::open(kv::Checkpoint::open(o_.model)->tokenizer_path());
    }
  }

  std::vector<std::int32_t> of(const std::string& file) const {
    if (o_.ids) return kv::read_ids(kv::Input::open(file));
    if (o_.text) return of_text(file);
    kv::TileSource source(file, kv::TileSource::Access::kSome);
    if (!source.next_member()) kv::fail_input("{}: empty, no cache", source.name());
    std::vector<std::int32_t> ids = source.tokens();
    if (ids.empty()) kv::fail_input("{}: has no token ids", source.name());
    if (source.next_member()) {
      kv::fail_input("{}: holds several members; take one (kvcat --members)", source.name());
    }
    return ids;
  }

 private:
  std::vector<std::int32_t> of_text(const std::string& file) const {
    constexpr std::uint64_t kMaxTextBytes = 1u << 30;
    const kv::Bytes text = kv::Input::open(file).read_all(kMaxTextBytes);
    std::vector<std::int32_t> ids = tokenizer_->encode(kv::as_text(text), o_.special);
    if (o_.bos || (!o_.no_bos && tokenizer_->adds_bos())) {
      if (!tokenizer_->bos()) kv::fail_usage("--bos: the tokenizer has none");
      ids.insert(ids.begin(), *tokenizer_->bos());
    }
    return ids;
  }

  const Options& o_;
  std::unique_ptr<kv::Tokenizer> tokenizer_;
};

// Returns whether the second prompt finds all that was kept of the first.
bool explain(const std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b,
             const Options& o) {
  const auto [at, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  const auto same = at - a.begin();
  if (at == a.end() || other == b.end()) {
    kv::print(fmt::format("the same {} tokens; then {} has {} more\n", same,
                          at == a.end() ? o.files[1] : o.files[0],
                          a.end() - at + (b.end() - other)));
  } else {
    kv::print(fmt::format("part at token {}: {} and {}\n", same, *at, *other));
  }
  bool all = true;
  for (const kv::KeyFamily& family : kv::key_families()) {
    const std::int64_t block = o.block > 0 ? o.block : family.block;
    const auto kept = kv::engine_keys(family, a, block, o.seed);
    const auto sought = kv::engine_keys(family, b, block, o.seed);
    const auto end = std::mismatch(kept.begin(), kept.end(), sought.begin(), sought.end()).first;
    const std::int64_t hit = end == kept.begin() ? 0 : std::prev(end)->tokens;
    kv::print(fmt::format("{:<12} blocks of {}: {} of {} keys are the same, {} tokens hit\n",
                          family.name, block, end - kept.begin(), kept.size(), hit));
    if (family.name == o.engine) all = end == kept.end();
  }
  return all;
}

int program_body(const Options& o, const kv::Invocation&) {
  const kv::KeyFamily& family = kv::key_family_by_name(o.engine);
  const Prompts prompts(o);
  if (o.explain) {
    if (o.files.size() != 2) kv::fail_usage("--explain: give two files");
    return explain(prompts.of(o.files[0]), prompts.of(o.files[1]), o) ? 0 : 1;
  }
  std::vector<std::string> files = o.files;
  if (files.empty()) files.push_back("-");
  for (const std::string& file : files) {
    const std::int64_t block = o.block > 0 ? o.block : family.block;
    for (const kv::EngineKey& key : kv::engine_keys(family, prompts.of(file), block, o.seed)) {
      kv::print(
          fmt::format("{}\t{}{}\n", key.tokens, key.key, files.size() > 1 ? "\t" + file : ""));
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {"kvhash", "the keys under which engines look for a prompt's cache",
                             "  kvhash --engine hicache report.kv\n"
                             "  kvhash --engine vllm --text -m smollm2 report.txt\n"
                             "  kvhash --explain --ids yesterday.ids today.ids\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
