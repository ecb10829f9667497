#include "kv/base/error.hh"
#include "kv/tokenizer/tokenizer.hh"

namespace kv {
namespace {

std::string trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(kSpace) - first + 1));
}

std::string unescaped(std::string text) {
  for (std::size_t at = 0; (at = text.find("\\n", at)) != std::string::npos; ++at) {
    text.replace(at, 2, "\n");
  }
  return text;
}

std::string chatml_turn(const ChatTemplate&, const ChatMessage& message) {
  return fmt::format("<|im_start|>{}\n{}<|im_end|>\n", message.role, message.content);
}

std::string llama3_turn(const ChatTemplate&, const ChatMessage& message) {
  return fmt::format("<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>", message.role,
                     trimmed(message.content));
}

std::string mistral_turn(const ChatTemplate& chat, const ChatMessage& message) {
  if (message.role == "assistant") return fmt::format("{}</s>", message.content);
  return chat.user_begin + message.content + chat.user_end;
}

// The string literal of a template in which `mark` stands, when only spaces stand beside it.
std::string literal_around(std::string_view jinja, std::string_view mark, std::string otherwise) {
  const std::size_t at = jinja.find(mark);
  if (at == std::string_view::npos) return otherwise;
  std::size_t begin = at, end = at + mark.size();
  while (begin > 0 && jinja[begin - 1] == ' ') --begin;
  while (end < jinja.size() && jinja[end] == ' ') ++end;
  const auto is_quote = [&](std::size_t i) {
    return i < jinja.size() && (jinja[i] == '\'' || jinja[i] == '"');
  };
  if (begin == 0 || !is_quote(begin - 1) || !is_quote(end)) return otherwise;
  return std::string(jinja.substr(begin, end - begin));
}

struct Kind {
  std::string_view name;
  std::string (*turn)(const ChatTemplate&, const ChatMessage&);
  std::string_view begin, assistant;
};
constexpr Kind kKinds[] = {
    {"chatml", chatml_turn, "", "<|im_start|>assistant\n"},
    {"llama3", llama3_turn, "<|begin_of_text|>",
     "<|start_header_id|>assistant<|end_header_id|>\n\n"},
    {"mistral", mistral_turn, "<s>", ""},
};

const Kind& kind_of(const ChatTemplate& chat) {
  for (const Kind& kind : kKinds) {
    if (kind.name == chat.name) return kind;
  }
  fail_usage("the model has no chat template that is known (chatml, llama3 and mistral are)");
}

}  // namespace

ChatTemplate recognise_chat_template(std::string_view jinja) {
  if (jinja.find("<|start_header_id|>") != std::string_view::npos) return {.name = "llama3"};
  if (jinja.find("[INST]") != std::string_view::npos) {
    ChatTemplate chat{.name = "mistral"};
    chat.user_begin = literal_around(jinja, "[INST]", chat.user_begin);
    chat.user_end = literal_around(jinja, "[/INST]", chat.user_end);
    return chat;
  }
  if (jinja.find("<|im_start|>") == std::string_view::npos) return {};
  ChatTemplate chat{.name = "chatml"};
  // A literal system turn in the template is what it says when the messages have none.
  for (const std::string_view lead : {"<|im_start|>system\\n", "<|im_start|>system\n"}) {
    const std::size_t at = jinja.find(lead);
    if (at == std::string_view::npos) continue;
    const std::string_view rest = jinja.substr(at + lead.size());
    const std::string_view system = rest.substr(0, rest.find("<|im_end|>"));
    if (system.find_first_of("'{") == std::string_view::npos) {
      chat.default_system = unescaped(std::string(system));
    }
    break;
  }
  return chat;
}

std::string chat_prompt(const ChatTemplate& chat, std::span<const ChatMessage> messages) {
  const Kind& kind = kind_of(chat);
  std::string text(kind.begin);
  if (!chat.default_system.empty() && (messages.empty() || messages[0].role != "system")) {
    text += kind.turn(chat, {"system", chat.default_system});
  }
  for (const ChatMessage& message : messages) text += kind.turn(chat, message);
  return text += kind.assistant;
}

std::string chat_turn(const ChatTemplate& chat, const ChatMessage& message) {
  const Kind& kind = kind_of(chat);
  return kind.turn(chat, message) + std::string(kind.assistant);
}

}  // namespace kv
