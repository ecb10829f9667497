#include "jinja.hh"

#include <algorithm>

namespace kv::jinja {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

bool is_quote(char c) { return c == '\'' || c == '"'; }

// Where the literal that begins at `at` ends, behind its quote; the end when it does not.
std::size_t literal_end(std::string_view text, std::size_t at) {
  const char quote = text[at++];
  for (; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == quote) {
      return at + 1;
    }
  }
  return text.size();
}

// Cuts the operand of + that begins `text` off it.
std::string_view next_operand(std::string_view& text) {
  std::size_t end = 0;
  while (end < text.size() && text[end] != '+') {
    end = is_quote(text[end]) ? literal_end(text, end) : end + 1;
  }
  std::string_view operand = text.substr(0, end);
  text.remove_prefix(std::min(text.size(), end + 1));
  const std::size_t first = operand.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  operand.remove_prefix(first);
  return operand.substr(0, operand.find_last_not_of(kSpace) + 1);
}

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::optional<ChatTemplate::Wrap> wrap_of(std::string_view expression) {
  ChatTemplate::Wrap wrap;
  bool content = false;
  while (!expression.empty()) {
    const std::string_view operand = next_operand(expression);
    if (operand.empty()) return std::nullopt;
    std::string& side = content ? wrap.end : wrap.begin;
    if (is_quote(operand.front()) && literal_end(operand, 0) == operand.size()) {
      side += unescaped(operand.substr(1, operand.size() - 2));
    } else if (operand == "bos_token") {
      side += "<s>";
    } else if (operand == "eos_token") {
      side += "</s>";
    } else if (!content && has(operand, "content")) {
      content = true;
      wrap.trim = has(operand, "trim") || has(operand, "strip()");
    } else {
      return std::nullopt;
    }
  }
  return content ? std::optional(wrap) : std::nullopt;
}

}  // namespace

std::string unescaped(std::string_view literal) {
  std::string text;
  for (std::size_t at = 0; at < literal.size(); ++at) {
    if (literal[at] == '\\' && at + 1 < literal.size()) {
      ++at;
      text += literal[at] == 'n' ? '\n' : literal[at];
    } else {
      text += literal[at];
    }
  }
  return text;
}

std::optional<std::string> text_behind(std::string_view jinja, std::string_view lead) {
  const std::size_t at = jinja.find(lead);
  if (at == std::string_view::npos) return std::nullopt;
  const std::size_t begin = at + lead.size();
  if (begin >= jinja.size() || !is_quote(jinja[begin])) return std::nullopt;
  const std::size_t end = literal_end(jinja, begin);
  return unescaped(jinja.substr(begin + 1, end - begin - 2));
}

std::optional<ChatTemplate::Wrap> wrap_with(std::string_view jinja, std::string_view mark) {
  for (std::size_t at = 0; (at = jinja.find("{{", at)) != std::string_view::npos;) {
    at += 2;
    std::string_view expression = jinja.substr(at, jinja.find("}}", at) - at);
    if (expression.starts_with('-')) expression.remove_prefix(1);
    if (expression.ends_with('-')) expression.remove_suffix(1);
    if (!has(expression, mark)) continue;
    if (auto wrap = wrap_of(expression)) return wrap;
  }
  return std::nullopt;
}

}  // namespace kv::jinja
