#include "kv/documents/prompts.hh"

#include "kv/base/json.hh"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace kv {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxBytes = 1u << 30;
constexpr int kMaxDepth = 64;

std::string text_of(const json& value, const char* what, const std::string& place) {
  if (!value.is_string()) fail_input("{}: {} is not text", place, what);
  return value.get<std::string>();
}

void read_parts(const json& object, Prompt& prompt) {
  const json& given = object["prompt"];
  for (const json& part : given.is_array() ? given : json::array({given})) {
    prompt.parts.push_back(text_of(part, "\"prompt\"", prompt.place));
  }
  const auto empty = [](const std::string& part) { return part.empty(); };
  if (std::ranges::all_of(prompt.parts, empty)) fail_input("{}: \"prompt\" is empty", prompt.place);
  const auto completion = object.find("completion");
  if (completion == object.end()) fail_input("{}: no \"completion\"", prompt.place);
  prompt.completion = text_of(*completion, "\"completion\"", prompt.place);
  if (prompt.completion.empty()) fail_input("{}: \"completion\" is empty", prompt.place);
}

void read_messages(const json& list, Prompt& prompt) {
  if (!list.is_array()) fail_input("{}: \"messages\" is not a list", prompt.place);
  bool answered = false;
  for (const json& message : list) {
    if (!message.is_object() || !message.contains("role") || !message.contains("content")) {
      fail_input("{}: a message without \"role\" or \"content\"", prompt.place);
    }
    prompt.messages.push_back({text_of(message["role"], "\"role\"", prompt.place),
                               text_of(message["content"], "\"content\"", prompt.place)});
    const PromptMessage& last = prompt.messages.back();
    if (last.role != "system" && last.role != "user" && last.role != "assistant") {
      fail_input("{}: a message of role '{}'; there are system, user and assistant", prompt.place,
                 last.role);
    }
    answered |= last.role == "assistant" && !last.content.empty() && prompt.messages.size() > 1;
  }
  if (!answered) fail_input("{}: no message that answers, of the role assistant", prompt.place);
}

Prompt prompt_of(std::string_view line, std::string place) {
  Prompt prompt;
  prompt.place = std::move(place);
  if (json_too_deep(line, kMaxDepth)) {
    fail_input("{}: nested deeper than {}", prompt.place, kMaxDepth);
  }
  const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) fail_input("{}: not valid JSON", prompt.place);
  if (!object.is_object()) fail_input("{}: not a JSON object", prompt.place);
  if (object.contains("prompt") == object.contains("messages")) {
    fail_input("{}: give either \"prompt\" or \"messages\"", prompt.place);
  }
  if (object.contains("prompt")) {
    read_parts(object, prompt);
  } else {
    read_messages(object["messages"], prompt);
  }
  if (const auto group = object.find("group"); group != object.end()) {
    prompt.group = text_of(*group, "\"group\"", prompt.place);
  }
  return prompt;
}

}  // namespace

std::vector<Prompt> read_prompts(Input input) {
  const Bytes bytes = input.read_all(kMaxBytes);
  std::string_view rest = as_text(bytes);
  std::vector<Prompt> prompts;
  for (std::uint64_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    prompts.push_back(prompt_of(line, fmt::format("{}: line {}", input.name(), number)));
  }
  if (prompts.empty()) fail_input("{}: no prompts", input.name());
  return prompts;
}

}  // namespace kv
