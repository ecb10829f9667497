// kvhash: the keys under which engines look for the cache of a prompt.

#include "kv/checkpoint/card.hh"
#include "kv/container/tile_source.hh"
#include "kv/convert/ids.hh"
#include "kv/convert/key_fields.hh"
#include "kv/tokenizer/tokenizer.hh"
#include "tool.hh"

#include <algorithm>
#include <charconv>

namespace {

struct Options {
  std::vector<std::string> files;
  std::string engine = "vllm", model;
  std::string blocks, seeds;  // one for all files, or with a comma one each of two
  bool text = false, ids = false, explain = false, names = false, special = false, bos = false,
       no_bos = false;
};

void declare(CLI::App& app, Options& o) {
  app.add_option("file", o.files, "kv streams (default: -)")->type_name("FILE");
  app.add_option("--engine", o.engine,
                 "vllm, vllm-blocks, vllm-cbor, lmcache, lmcache-mp or hicache")
      ->type_name("NAME");
  app.add_option("--block", o.blocks,
                 "tokens of a block (default: the engine's); N,M: of two files")
      ->type_name("N");
  app.add_option("--seed", o.seeds, "vllm-blocks, vllm-cbor, lmcache: PYTHONHASHSEED, likewise")
      ->type_name("TEXT");
  app.add_flag("--ids", o.ids, "files hold token ids");
  app.add_flag("--text", o.text, "files hold text, of which -m makes ids")->excludes("--ids");
  app.add_option("-m,--model", o.model, "with --text: the model")->type_name("MODEL");
  app.add_flag("--bos", o.bos, "put BOS first (default: as the tokenizer does)");
  app.add_flag("--no-bos", o.no_bos, "put no BOS first")->excludes("--bos");
  app.add_flag("--special", o.special, "take spelled-out special tokens of texts as such");
  app.add_flag("--explain", o.explain,
               "of two files: where they part, what else differs, which blocks they share");
  app.add_flag("--names", o.names, "with --explain: of two names of files in stores");
}

// What of such an option is that of a file, by its number.
std::string value_of(const std::string& option, std::size_t number) {
  const std::size_t comma = option.find(',');
  if (comma == std::string::npos) return option;
  return number == 0 ? option.substr(0, comma) : option.substr(comma + 1);
}

std::int64_t block_of(const std::string& text) {
  if (text.empty()) return 0;
  std::int64_t block = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), block);
  if (error != std::errc() || end != text.data() + text.size() || block < 1 || block > 1 << 20) {
    kv::fail_usage("--block {}: give a number from 1 to {}", text, 1 << 20);
  }
  return block;
}

class Prompts {
 public:
  explicit Prompts(const Options& options) : o_(options) {
    if (o_.text == o_.model.empty()) kv::fail_usage("--text and -m MODEL: one needs the other");
    if (o_.text) {
      tokenizer_ = kv::Tokenizer::open(kv::Checkpoint::open(o_.model)->tokenizer_path());
    }
  }

  // The number is that of the file among those given.
  kv::KeyedPrompt of(const std::string& file, std::size_t number) const {
    kv::KeyedPrompt prompt;
    prompt.name = file;
    prompt.block = block_of(value_of(o_.blocks, number));
    prompt.seed = value_of(o_.seeds, number);
    if (o_.ids) {
      prompt.ids = kv::read_ids(kv::Input::open(file));
    } else if (o_.text) {
      prompt.ids = of_text(file);
    } else {
      kv::TileSource source(file, kv::TileSource::Access::kSome);
      prompt.meta = source.next_member();
      if (!prompt.meta) kv::fail_input("{}: empty, no cache", source.name());
      prompt.ids = source.tokens();
      if (prompt.ids.empty()) kv::fail_input("{}: has no token ids", source.name());
      if (source.next_member()) {
        kv::fail_input("{}: holds several members; take one (kvcat --members)", source.name());
      }
    }
    return prompt;
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

std::string listed(const char* before, const std::vector<std::string_view>& fields) {
  return fields.empty() ? "" : fmt::format("{}{}", before, fmt::join(fields, ", "));
}

// Returns whether the second prompt finds all that was kept of the first, and nothing wrong.
bool explain(const kv::KeyedPrompt& a, const kv::KeyedPrompt& b, const std::string& engine) {
  const auto [at, other] = std::mismatch(a.ids.begin(), a.ids.end(), b.ids.begin(), b.ids.end());
  const auto same = at - a.ids.begin();
  if (at == a.ids.end() && other == b.ids.end()) {
    kv::print(fmt::format("tokens: the same {}\n", same));
  } else if (at == a.ids.end() || other == b.ids.end()) {
    kv::print(fmt::format("tokens: the same {}; then {} has {} more\n", same,
                          at == a.ids.end() ? b.name : a.name,
                          a.ids.end() - at + (b.ids.end() - other)));
  } else {
    kv::print(fmt::format("tokens: part at {}: {} and {}\n", same, *at, *other));
  }
  const std::vector<kv::KeyDifference> differences = kv::key_differences(a, b);
  for (const kv::KeyDifference& one : differences) {
    kv::print(fmt::format("{}: {} and {}\n", one.field, one.a, one.b));
  }
  bool all = true;
  for (const kv::KeyFamily& family : kv::key_families()) {
    const kv::KeyHits hits = kv::key_hits(family, a, b, differences);
    kv::print(fmt::format("{:<12} blocks of {}: {} of {} keys are the same, {} tokens hit{}{}\n",
                          family.name, hits.block, hits.keys, hits.of, hits.tokens,
                          listed("; kept apart by ", hits.kept_apart),
                          listed("; does not notice ", hits.unnoticed)));
    if (family.name == engine) all = hits.keys == hits.of && hits.unnoticed.empty();
  }
  return all;
}

bool explain_names(const std::string& a, const std::string& b) {
  const std::vector<kv::NamePart> of_a = kv::store_name_parts(a), of_b = kv::store_name_parts(b);
  const auto value = [](const std::vector<kv::NamePart>& parts, const std::string& field) {
    for (const kv::NamePart& part : parts) {
      if (part.field == field) return part.value;
    }
    return std::string("none");
  };
  std::vector<kv::NamePart> fields = of_a;
  for (const kv::NamePart& part : of_b) {
    if (value(of_a, part.field) == "none") fields.push_back(part);
  }
  bool same = true;
  for (const kv::NamePart& part : fields) {
    const std::string x = value(of_a, part.field), y = value(of_b, part.field);
    same = same && x == y;
    const char* why = part.field == "hash" ? ": other tokens, block, seed or algorithm" : "";
    if (x != y) kv::print(fmt::format("{}: {} and {}{}\n", part.field, x, y, why));
  }
  if (same) kv::print("the same\n");
  return same;
}

int program_body(const Options& o, const kv::Invocation&) {
  const kv::KeyFamily& family = kv::key_family_by_name(o.engine);
  if (!o.explain && (o.names || (o.blocks + o.seeds).find(',') != std::string::npos)) {
    kv::fail_usage("--names, and two values of --block and --seed: with --explain");
  }
  if (o.explain && o.files.size() != 2) kv::fail_usage("--explain: give two files");
  if (o.names) return explain_names(o.files[0], o.files[1]) ? 0 : 1;
  const Prompts prompts(o);
  if (o.explain) {
    return explain(prompts.of(o.files[0], 0), prompts.of(o.files[1], 1), o.engine) ? 0 : 1;
  }
  std::vector<std::string> files = o.files;
  if (files.empty()) files.push_back("-");
  for (const std::string& file : files) {
    const kv::KeyedPrompt prompt = prompts.of(file, 0);
    const std::int64_t block = prompt.block > 0 ? prompt.block : family.block;
    for (const kv::EngineKey& key : kv::engine_keys(family, prompt.ids, block, prompt.seed)) {
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
