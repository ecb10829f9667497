#include "jinja.hh"
#include "kv/base/error.hh"
#include "kv/tokenizer/tokenizer.hh"

namespace kv {
namespace {

using SystemPlace = ChatTemplate::SystemPlace;

std::string trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(kSpace) - first + 1));
}

std::string chatml_turn(const ChatTemplate&, const ChatMessage& message) {
  return fmt::format("<|im_start|>{}\n{}<|im_end|>\n", message.role, message.content);
}

std::string llama3_turn(const ChatTemplate& chat, const ChatMessage& message) {
  return fmt::format("<|start_header_id|>{}<|end_header_id|>\n\n{}{}<|eot_id|>", message.role,
                     message.role == "system" ? chat.system_lead : "", trimmed(message.content));
}

std::string wrapped_turn(const ChatTemplate& chat, const ChatMessage& message) {
  if (message.role != "user" && message.role != "assistant") {
    fail_usage("the model's chat template has no place for a message of the {}", message.role);
  }
  const ChatTemplate::Wrap& wrap = message.role == "user" ? chat.user : chat.assistant;
  return wrap.begin + (wrap.trim ? trimmed(message.content) : message.content) + wrap.end;
}

struct Kind {
  std::string_view name;
  std::string (*turn)(const ChatTemplate&, const ChatMessage&);
  std::string_view begin, assistant;
  std::string_view system_begin, system_end;  // within a user's message
  bool trims_first = false;                   // messages, before a system prompt goes into one
};
constexpr Kind kKinds[] = {
    {"chatml", chatml_turn, "", "<|im_start|>assistant\n", "", ""},
    {"llama3", llama3_turn, "<|begin_of_text|>",
     "<|start_header_id|>assistant<|end_header_id|>\n\n", "", ""},
    {"llama2", wrapped_turn, "", "", "<<SYS>>\n", "\n<</SYS>>\n\n"},
    {"mistral", wrapped_turn, "<s>", "", "", "\n\n"},
    {"gemma", wrapped_turn, "<bos>", "<start_of_turn>model\n", "", "\n\n", true},
};

const Kind& kind_of(const ChatTemplate& chat) {
  for (const Kind& kind : kKinds) {
    if (kind.name == chat.name) return kind;
  }
  fail_usage(
      "the model has no chat template that is known (chatml, gemma, llama2, llama3 and mistral "
      "are)");
}

// What the model is told of the date, as the template has it for a program without a clock.
std::string llama3_lead(std::string_view jinja) {
  if (jinja.find("Cutting Knowledge Date") == std::string_view::npos) return "";
  const std::string date = jinja::text_behind(jinja, "set date_string = ").value_or("26 Jul 2024");
  return fmt::format("Cutting Knowledge Date: December 2023\nToday Date: {}\n\n", date);
}

ChatTemplate gemma_template() {
  ChatTemplate chat{.name = "gemma"};
  chat.system = SystemPlace::kFirstUser;
  chat.user = {"<start_of_turn>user\n", "<end_of_turn>\n"};
  chat.assistant = {"<start_of_turn>model\n", "<end_of_turn>\n"};
  return chat;
}

ChatTemplate wrapped_template(std::string_view jinja) {
  const auto has = [&](std::string_view text) {
    return jinja.find(text) != std::string_view::npos;
  };
  ChatTemplate chat{.name = "mistral"};
  if (has("<<SYS>>")) {
    chat.name = "llama2";
    chat.system = SystemPlace::kFirstUser;
    chat.user = {"<s>[INST] ", " [/INST]", /*trim=*/true};
    chat.assistant = {" ", " </s>", /*trim=*/true};
  } else if (has("loop.last and system_message")) {
    chat.system = SystemPlace::kLastUser;
  } else {
    chat.system = has("system_message") ? SystemPlace::kFirstUser : SystemPlace::kNowhere;
  }
  chat.user = jinja::wrap_with(jinja, "[INST]").value_or(chat.user);
  chat.assistant = jinja::wrap_with(jinja, "eos_token").value_or(chat.assistant);
  return chat;
}

// A literal system turn in the template is what it says when the messages have none.
std::string chatml_system(std::string_view jinja) {
  for (const std::string_view lead : {"<|im_start|>system\\n", "<|im_start|>system\n"}) {
    for (std::size_t at = 0; (at = jinja.find(lead, at)) != std::string_view::npos;) {
      at += lead.size();
      const std::size_t end = jinja.find("<|im_end|>", at);
      const std::string_view system = jinja.substr(at, end - at);
      if (end != std::string_view::npos && system.find_first_of("'\"{") == std::string_view::npos) {
        return jinja::unescaped(system);
      }
    }
  }
  return "";
}

// The system prompt within the user's message that the template puts it in.
void fold_system(const ChatTemplate& chat, const Kind& kind, std::vector<ChatMessage>& messages) {
  if (chat.system == SystemPlace::kTurn || messages.empty() || messages[0].role != "system") return;
  const std::string system = std::move(messages[0].content);
  messages.erase(messages.begin());
  const bool first = chat.system == SystemPlace::kFirstUser;
  if (chat.system == SystemPlace::kNowhere || messages.empty() ||
      (first ? messages.front() : messages.back()).role != "user") {
    fail_usage("the model's chat template has no place for the system prompt");
  }
  std::string& content = (first ? messages.front() : messages.back()).content;
  content = fmt::format("{}{}{}{}", kind.system_begin, system, kind.system_end, content);
}

}  // namespace

ChatTemplate recognise_chat_template(std::string_view jinja) {
  const auto has = [&](std::string_view text) {
    return jinja.find(text) != std::string_view::npos;
  };
  if (has("<|start_header_id|>")) return {.name = "llama3", .system_lead = llama3_lead(jinja)};
  // Later Mistrals have a turn for the system prompt, and one of their own.
  if (has("[INST]")) return has("[SYSTEM_PROMPT]") ? ChatTemplate() : wrapped_template(jinja);
  if (has("<start_of_turn>")) return gemma_template();
  if (has("<|im_start|>")) return {.name = "chatml", .default_system = chatml_system(jinja)};
  return {};
}

std::string chat_prompt(const ChatTemplate& chat, std::span<const ChatMessage> messages) {
  const Kind& kind = kind_of(chat);
  std::vector<ChatMessage> turns(messages.begin(), messages.end());
  if ((turns.empty() || turns[0].role != "system") &&
      !(chat.default_system.empty() && chat.system_lead.empty())) {
    turns.insert(turns.begin(), {"system", chat.default_system});
  }
  for (ChatMessage& turn : turns) {
    if (kind.trims_first && turn.role != "system") turn.content = trimmed(turn.content);
  }
  fold_system(chat, kind, turns);
  std::string text(kind.begin);
  for (const ChatMessage& turn : turns) text += kind.turn(chat, turn);
  return text += kind.assistant;
}

std::string chat_turn(const ChatTemplate& chat, const ChatMessage& message) {
  const Kind& kind = kind_of(chat);
  ChatMessage said = message;
  if (kind.trims_first) said.content = trimmed(said.content);
  return kind.turn(chat, said) + std::string(kind.assistant);
}

std::vector<TokenId> prompt_ids(const Tokenizer& tokenizer, const std::string& prompt, bool chat,
                                bool begins) {
  if (chat) {
    const ChatMessage message{"user", prompt};
    const ChatTemplate known = tokenizer.chat_template();
    return tokenizer.encode(begins ? chat_prompt(known, {&message, 1}) : chat_turn(known, message),
                            /*parse_special=*/true);
  }
  std::vector<TokenId> ids = tokenizer.encode(prompt);
  if (begins && tokenizer.adds_bos() && tokenizer.bos()) ids.insert(ids.begin(), *tokenizer.bos());
  return ids;
}

}  // namespace kv
