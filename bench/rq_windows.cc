#include "rq_windows.hh"

#include "kv/base/hash.hh"
#include "kv/documents/documents.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <numeric>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace kv {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxFileBytes = 1u << 30;
constexpr std::size_t kRunWords = 12;

std::vector<json> json_lines(const std::string& path) {
  const Bytes bytes = Input::open(path).read_all(kMaxFileBytes);
  std::string_view rest = as_text(bytes);
  std::vector<json> lines;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.empty()) continue;
    lines.push_back(json::parse(line, nullptr, false));
    if (!lines.back().is_object()) {
      fail_input("{}: line {}: not a JSON object", path, lines.size());
    }
  }
  return lines;
}

std::string trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \n");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \n") - first + 1));
}

// Sets that grow together.
class Groups {
 public:
  explicit Groups(std::size_t size) : parent_(size) {
    std::iota(parent_.begin(), parent_.end(), std::size_t{0});
  }
  std::size_t find(std::size_t i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  void join(std::size_t a, std::size_t b) { parent_[find(a)] = find(b); }

 private:
  std::vector<std::size_t> parent_;
};

// Member numbers of the largest group; of equal ones the first.
std::vector<bool> largest_group(const std::vector<std::vector<std::uint64_t>>& runs) {
  Groups groups(runs.size());
  std::unordered_map<std::uint64_t, std::size_t> first;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    for (const std::uint64_t run : runs[i]) groups.join(i, first.try_emplace(run, i).first->second);
  }
  std::vector<std::size_t> sizes(runs.size());
  for (std::size_t i = 0; i < runs.size(); ++i) ++sizes[groups.find(i)];
  const auto largest =
      static_cast<std::size_t>(std::max_element(sizes.begin(), sizes.end()) - sizes.begin());
  std::vector<bool> in(runs.size());
  for (std::size_t i = 0; i < runs.size(); ++i) in[i] = groups.find(i) == largest;
  return in;
}

// BOS as the tokenizer has it, then the text's first tokens; fewer when the text is short.
std::vector<std::int32_t> first_tokens(const Tokenizer& tokenizer, const std::string& text,
                                       std::size_t count) {
  std::vector<std::int32_t> tokens = tokenizer.encode(text);
  if (tokenizer.adds_bos()) tokens.insert(tokens.begin(), *tokenizer.bos());
  if (tokens.size() > count) tokens.resize(count);
  return tokens;
}

class WindowMaker {
 public:
  WindowMaker(const Tokenizer& tokenizer, const WindowOptions& options)
      : tokenizer_(tokenizer),
        options_(options),
        wanted_(static_cast<std::size_t>(options.context + options.continuation)) {}

  void add_longchat(const std::vector<std::string>& all) {
    const std::size_t count = all.size();
    std::vector<std::size_t> strides;  // each visits every conversation once
    for (std::size_t i = 1; i < count; ++i) {
      if (std::gcd(i, count) == 1) strides.push_back(i);
    }
    // Starts far from each other, so that windows of one round overlap little.
    const std::size_t hop = strides[std::min<std::size_t>(2, strides.size() - 1)];
    for (std::size_t i = 0; i < static_cast<std::size_t>(options_.longchat); ++i) {
      const std::size_t round = i / count;
      if (round == strides.size()) fail_input("longchat: no more than {} windows", i);
      std::string text;
      for (std::size_t j = 0; j < count; ++j) {
        text += (j == 0 ? "" : " ") + all[(i * hop + j * strides[round]) % count];
      }
      add("longchat", i, text);
    }
  }

  void add_musique(const std::vector<std::string>& all) {
    std::size_t next = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(options_.musique); ++i) {
      std::string text;
      while (first_tokens(tokenizer_, text, wanted_).size() < wanted_) {
        if (next == all.size()) fail_input("musique: no more than {} windows of this size", i);
        text += (text.empty() ? "" : "\n\n") + all[next++];
      }
      add("musique", i, text);
    }
  }

  std::vector<Window> take() { return std::move(windows_); }

 private:
  void add(const std::string& domain, std::size_t number, const std::string& text) {
    Window window{
        fmt::format("{}-{}-{}-{}", domain, options_.split == Split::kTest ? "test" : "calibration",
                    options_.context, number),
        domain, options_.context, first_tokens(tokenizer_, text, wanted_)};
    if (window.tokens.size() < wanted_) {
      fail_input("{}: {} tokens are there, {} are wanted", window.id, window.tokens.size(),
                 wanted_);
    }
    windows_.push_back(std::move(window));
  }

  const Tokenizer& tokenizer_;
  const WindowOptions& options_;
  std::size_t wanted_;
  std::vector<Window> windows_;
};

}  // namespace

Split parse_split(const std::string& name) {
  if (name == "test") return Split::kTest;
  if (name == "calibration") return Split::kCalibration;
  fail_usage("--split '{}': must be test or calibration", name);
}

std::vector<std::uint64_t> word_runs(const std::string& text) {
  std::vector<std::uint64_t> words, runs;
  for (std::size_t at = text.find_first_not_of(" \n"); at != std::string::npos;) {
    const std::size_t end = std::min(text.find_first_of(" \n", at), text.size());
    words.push_back(xxh3_64(as_bytes(std::string_view(text).substr(at, end - at))));
    at = text.find_first_not_of(" \n", end);
  }
  for (std::size_t i = 0; i + kRunWords <= words.size(); ++i) {
    runs.push_back(xxh3_64(std::as_bytes(std::span(words).subspan(i, kRunWords))));
  }
  return runs;
}

std::vector<std::string> longchat_conversations(const std::string& path, Split split) {
  constexpr std::string_view kBegin = "USER: I would like to discuss the topic of ";
  constexpr std::string_view kEnd = "Now the record ends";
  std::vector<std::string> chosen;
  std::set<std::string> seen;
  for (const json& line : json_lines(path)) {
    const auto prompt = line.find("prompt");
    if (prompt == line.end() || !prompt->is_string()) fail_input("{}: no \"prompt\"", path);
    std::string_view text = prompt->get_ref<const std::string&>();
    text = text.substr(0, text.rfind(kEnd));
    for (std::size_t at = text.find(kBegin); at != std::string_view::npos;) {
      const std::size_t next = text.find(kBegin, at + kBegin.size());
      std::string conversation = trimmed(text.substr(at, next - at));
      at = next;
      if (!seen.insert(conversation).second) continue;
      if ((seen.size() % 2 == 1) == (split == Split::kTest)) {
        chosen.push_back(std::move(conversation));
      }
    }
  }
  if (chosen.size() < 3) fail_input("{}: {} conversations", path, chosen.size());
  return chosen;
}

std::vector<std::string> musique_passages(const std::string& path, Split split) {
  std::vector<std::string> all;
  for (const json& line : json_lines(path)) {
    const auto passages = line.find("ctxs");
    if (passages == line.end() || !passages->is_array()) fail_input("{}: no \"ctxs\"", path);
    for (const json& passage : *passages) {
      const auto text = passage.is_object() ? passage.find("text") : passage.end();
      if (!passage.is_object() || text == passage.end() || !text->is_string()) {
        fail_input("{}: a passage without \"text\"", path);
      }
      all.push_back(trimmed(text->get_ref<const std::string&>()));
    }
  }
  std::vector<std::vector<std::uint64_t>> runs;
  for (const std::string& passage : all) runs.push_back(word_runs(passage));
  const std::vector<bool> calibration = largest_group(runs);
  std::vector<std::string> chosen;
  std::unordered_set<std::uint64_t> used;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (calibration[i] != (split == Split::kCalibration)) continue;
    if (std::ranges::any_of(runs[i], [&](std::uint64_t run) { return used.contains(run); })) {
      continue;
    }
    used.insert(runs[i].begin(), runs[i].end());
    chosen.push_back(std::move(all[i]));
  }
  return chosen;
}

std::vector<Window> make_windows(const Tokenizer& tokenizer, const std::string& folder,
                                 const WindowOptions& options) {
  if (options.context < 1 || options.continuation < 0 || options.longchat < 0 ||
      options.musique < 0) {
    fail_usage("windows: negative or empty");
  }
  WindowMaker maker(tokenizer, options);
  if (options.longchat > 0) {
    maker.add_longchat(longchat_conversations(folder + "/longchat.jsonl", options.split));
  }
  if (options.musique > 0) {
    maker.add_musique(musique_passages(folder + "/musique.jsonl", options.split));
  }
  return maker.take();
}

std::string window_line(const Window& window, const Tokenizer* text_of) {
  json line = {{"id", window.id}, {"domain", window.domain}, {"context", window.context}};
  if (text_of != nullptr) {
    line["text"] = text_of->decode(window.tokens);
  } else {
    line["tokens"] = window.tokens;
  }
  return line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::vector<Window> read_windows(const std::string& path) {
  std::vector<Window> windows;
  std::set<std::string> ids;
  JsonlReader reader(Input::open(path));
  while (std::optional<Document> document = reader.next()) {
    if (!document->tokens) fail_input("{}: a window needs \"tokens\"", document->place);
    const json fields = json::parse(document->fields_json);
    Window window{document->id, "", 0, std::move(*document->tokens)};
    if (fields.contains("domain") && fields["domain"].is_string()) window.domain = fields["domain"];
    const auto context = fields.find("context");
    if (context == fields.end() || !context->is_number_integer() || *context < 1 ||
        *context > static_cast<std::int64_t>(window.tokens.size())) {
      fail_input("{}: \"context\" is no number of tokens of the window", document->place);
    }
    window.context = context->get<std::int64_t>();
    if (!ids.insert(window.id).second) fail_input("{}: the id stands twice", document->place);
    windows.push_back(std::move(window));
  }
  if (windows.empty()) fail_input("{}: no windows", path);
  return windows;
}

}  // namespace kv
