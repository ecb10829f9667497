#include "kv/eval/prompts.hh"

#include "kv/base/json.hh"

#include <nlohmann/json.hpp>

#include <set>

namespace kv {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;

std::string text_of(const json& value, const char* field, const std::string& place) {
  if (!value.is_string()) fail_input("{}: \"{}\" is not text", place, field);
  return value.get<std::string>();
}

std::vector<std::string> texts_of(const json& value, const char* field, const std::string& place) {
  if (!value.is_array()) fail_input("{}: \"{}\" is not a list of texts", place, field);
  std::vector<std::string> texts;
  for (const json& each : value) texts.push_back(text_of(each, field, place));
  return texts;
}

std::string id_of(const json& object, std::uint64_t number, const std::string& place) {
  const auto id = object.find("id");
  if (id == object.end()) return std::to_string(number);
  if (id->is_number_integer()) return id->dump();
  if (!id->is_string() || id->get_ref<const std::string&>().empty()) {
    fail_input("{}: \"id\" is neither text nor a whole number", place);
  }
  return id->get<std::string>();
}

EvalPrompt prompt_of(const std::string& line, std::uint64_t number, const std::string& place) {
  if (json_too_deep(line, kMaxDepth)) fail_input("{}: nested deeper than {}", place, kMaxDepth);
  const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) fail_input("{}: not valid JSON", place);
  if (!object.is_object()) fail_input("{}: not a JSON object", place);
  EvalPrompt prompt{.id = id_of(object, number, place), .place = place};
  if (object.contains("chunks") == object.contains("context")) {
    fail_input("{}: give either \"chunks\" or \"context\"", place);
  }
  prompt.chunks = object.contains("chunks")
                      ? texts_of(object["chunks"], "chunks", place)
                      : std::vector{text_of(object["context"], "context", place)};
  if (prompt.chunks.empty()) fail_input("{}: \"chunks\" is empty", place);
  for (const std::string& chunk : prompt.chunks) {
    if (chunk.empty()) fail_input("{}: a chunk is empty", place);
  }
  if (!object.contains("question")) fail_input("{}: no \"question\"", place);
  prompt.question = text_of(object["question"], "question", place);
  if (object.contains("answers")) prompt.answers = texts_of(object["answers"], "answers", place);
  return prompt;
}

}  // namespace

std::vector<EvalPrompt> read_eval_prompts(Input input) {
  const std::string name = input.name();
  LineReader lines(std::move(input));
  std::vector<EvalPrompt> prompts;
  std::set<std::string> ids;
  while (const std::optional<std::string> line = lines.next()) {
    prompts.push_back(prompt_of(*line, lines.number(), lines.place()));
    if (!ids.insert(prompts.back().id).second) {
      fail_input("{}: another prompt has the id '{}'", lines.place(), prompts.back().id);
    }
  }
  if (prompts.empty()) fail_input("{}: holds no prompts", name);
  return prompts;
}

}  // namespace kv
