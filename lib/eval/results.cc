#include "kv/eval/results.hh"

#include "kv/base/file.hh"
#include "kv/base/json.hh"

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <filesystem>
#include <map>

namespace kv {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::uint64_t kMaxFileBytes = 1u << 30;
constexpr int kMaxDepth = 64;
constexpr std::string_view kHead = "{\"kveval\":\"results\",\"version\":1}";

template <typename T>
void get(const json& line, const char* name, std::optional<T>& into) {
  if (const json& value = line.at(name); !value.is_null()) into = value.get<T>();
}

template <typename T>
ordered_json json_of(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

Result result_of(const json& line) {
  Result r;
  line.at("setup").get_to(r.setup);
  line.at("prompt").get_to(r.prompt);
  line.at("id").get_to(r.id);
  line.at("recipe").get_to(r.recipe);
  line.at("tokens").get_to(r.tokens);
  line.at("kld").get_to(r.kld);
  line.at("same_top").get_to(r.same_top);
  get(line, "nll", r.nll);
  get(line, "f1", r.f1);
  get(line, "exact", r.exact);
  line.at("answer").get_to(r.answer);
  line.at("bytes").get_to(r.bytes);
  line.at("chunk_bytes").get_to(r.chunk_bytes);
  line.at("before_s").get_to(r.before_s);
  line.at("ttft_s").get_to(r.ttft_s);
  get(line, "computed", r.computed);
  get(line, "flops", r.flops);
  line.at("in_process").get_to(r.in_process);
  if (r.kld.empty()) throw std::runtime_error("no predictions");
  return r;
}

}  // namespace

std::string result_line(const Result& r) {
  ordered_json kld = ordered_json::array();
  // Six digits are enough and keep the line short.
  for (const double value : r.kld) kld.push_back(std::stod(fmt::format("{:.6g}", value)));
  return ordered_json{{"setup", r.setup},
                      {"prompt", r.prompt},
                      {"id", r.id},
                      {"recipe", r.recipe},
                      {"tokens", r.tokens},
                      {"kld", kld},
                      {"same_top", r.same_top},
                      {"nll", json_of(r.nll)},
                      {"f1", json_of(r.f1)},
                      {"exact", json_of(r.exact)},
                      {"answer", r.answer},
                      {"bytes", r.bytes},
                      {"chunk_bytes", r.chunk_bytes},
                      {"before_s", r.before_s},
                      {"ttft_s", r.ttft_s},
                      {"computed", json_of(r.computed)},
                      {"flops", json_of(r.flops)},
                      {"in_process", r.in_process}}
             .dump(-1, ' ', false, ordered_json::error_handler_t::replace) +
         "\n";
}

Result as_kept(const Result& result) { return result_of(json::parse(result_line(result))); }

std::vector<Result> read_results(const std::string& path) {
  const Bytes bytes = Input::open(path).read_all(kMaxFileBytes);
  std::string_view rest = as_text(bytes);
  std::vector<Result> results;
  std::map<std::pair<std::string, std::string>, std::size_t> at;
  for (std::uint64_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (number == 1) {
      if (line != kHead) {
        fail_input("{}: not what kveval --work writes; name another file", path);
      }
      continue;
    }
    if (json_too_deep(line, kMaxDepth)) fail_input("{}: line {}: nested too deep", path, number);
    if (line == kHead) continue;  // of two that made the file at the same time
    const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (object.is_discarded()) continue;
    try {
      Result result = result_of(object);
      const auto [found, fresh] = at.try_emplace({result.prompt, result.recipe}, results.size());
      if (fresh) {
        results.push_back(std::move(result));
      } else {
        results[found->second] = std::move(result);
      }
    } catch (const std::exception& error) {
      fail_input("{}: line {}: no result: {}", path, number, error.what());
    }
  }
  return results;
}

ResultLog::ResultLog(std::string path) : path_(std::move(path)) {
  if (!std::filesystem::exists(path_) || std::filesystem::file_size(path_) == 0) {
    append(std::string(kHead) + "\n");
    return;
  }
  read_results(path_);  // Not to be written into what is something else.
  // What a kill tore off stays a line of its own.
  const Bytes bytes = Input::open(path_).read_all(kMaxFileBytes);
  if (as_text(bytes).back() != '\n') append("\n");
}

void ResultLog::append(const std::string& text) const {
  const Fd file(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (file.number() < 0 ||
      ::write(file.number(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    fail_errno("append to " + path_);
  }
}

void ResultLog::add(const Result& result) const { append(result_line(result)); }

}  // namespace kv
