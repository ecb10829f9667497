#include "rq_results.hh"

#include "kv/base/file.hh"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <tuple>

namespace kv {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxFileBytes = 1u << 30;

WindowResult result_of(const json& line) {
  WindowResult r;
  line.at("setup").get_to(r.setup);
  line.at("window").get_to(r.window);
  line.at("domain").get_to(r.domain);
  line.at("recipe").get_to(r.recipe);
  line.at("shell").get_to(r.shell);
  line.at("probe").get_to(r.probe);
  line.at("context").get_to(r.context);
  line.at("values").get_to(r.values);
  line.at("bytes").get_to(r.bytes);
  line.at("raw_bytes").get_to(r.raw_bytes);
  line.at("encode_s").get_to(r.encode_s);
  line.at("encode_cpu_s").get_to(r.encode_cpu_s);
  line.at("kld").get_to(r.kld);
  line.at("same_top").get_to(r.same_top);
  line.at("targets").get_to(r.targets);
  line.at("nll_sum").get_to(r.nll_sum);
  line.at("reference_nll_sum").get_to(r.reference_nll_sum);
  if (r.values < 1 || r.raw_bytes < 1 || r.kld.empty()) throw std::runtime_error("empty figures");
  return r;
}

}  // namespace

std::string window_result_line(const WindowResult& r) {
  // Four digits a token are enough and keep the line short.
  std::string kld;
  for (const double value : r.kld) kld += fmt::format("{}{:.4g}", kld.empty() ? "" : ",", value);
  const auto text = [](const std::string& value) {
    return json(value).dump(-1, ' ', false, json::error_handler_t::replace);
  };
  return fmt::format(
      "{{\"setup\":{},\"window\":{},\"domain\":{},\"recipe\":{},\"probe\":{},\"shell\":{},"
      "\"context\":{},\"values\":{},\"bytes\":{},\"raw_bytes\":{},\"encode_s\":{:.4f},"
      "\"encode_cpu_s\":{:.4f},\"same_top\":{},\"targets\":{},\"nll_sum\":{},"
      "\"reference_nll_sum\":{},\"kld\":[{}]}}\n",
      text(r.setup), text(r.window), text(r.domain), text(r.recipe), text(r.probe), text(r.shell),
      r.context, r.values, r.bytes, r.raw_bytes, r.encode_s, r.encode_cpu_s, r.same_top, r.targets,
      r.nll_sum, r.reference_nll_sum, kld);
}

std::vector<WindowResult> read_window_results(const std::string& path) {
  const Bytes bytes = Input::open(path).read_all(kMaxFileBytes);
  std::string_view rest = as_text(bytes);
  std::vector<WindowResult> results;
  std::map<std::tuple<std::string, std::string, std::string>, std::size_t> at;
  for (std::uint64_t number = 1; rest.find('\n') != std::string_view::npos; ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() + 1);
    try {
      WindowResult result = result_of(json::parse(line));
      const auto [found, fresh] =
          at.try_emplace({result.window, result.recipe, result.probe}, results.size());
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

void mend_results(const std::string& path) {
  if (!std::filesystem::exists(path)) return;
  const Bytes bytes = Input::open(path).read_all(kMaxFileBytes);
  const std::size_t last = as_text(bytes).rfind('\n');
  const std::size_t whole = last == std::string_view::npos ? 0 : last + 1;
  if (whole != bytes.size()) std::filesystem::resize_file(path, whole);
}

}  // namespace kv
