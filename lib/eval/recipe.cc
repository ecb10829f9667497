#include "kv/eval/recipe.hh"

#include "kv/base/error.hh"

namespace kv {
namespace {

// What a shell would do more with than pass it on.
constexpr std::string_view kSpecial = "<>*?[]~#!$={}^";
// What would make other commands than those between '|'.
constexpr std::string_view kJoins = ";&()`\n";

bool is_blank(char c) { return c == ' ' || c == '\t'; }

class Parser {
 public:
  Parser(std::string_view text, const std::map<std::string, std::string>& variables)
      : text_(text), variables_(variables) {}

  std::vector<StageText> run() {
    for (; at_ < text_.size() && !joined_; ++at_) step(text_[at_]);
    if (joined_) return {{std::string(text_), {}}};
    end_stage();
    return std::move(stages_);
  }

 private:
  void step(char c) {
    if (c == '|') {
      joined_ = at_ + 1 < text_.size() && (text_[at_ + 1] == '|' || text_[at_ + 1] == '&');
      if (!joined_) end_stage();
      begin_ = at_ + 1;
    } else if (is_blank(c)) {
      end_word();
    } else if (c == '\'' || c == '"') {
      in_word_ = true;
      quoted(c);
    } else if (c == '\\') {
      in_word_ = true;
      if (++at_ < text_.size()) word_ += text_[at_];
    } else if (kJoins.find(c) != std::string_view::npos) {
      joined_ = true;
    } else {
      // "--a=b" is a word; "A=b" before a command is not.
      const bool option = c == '=' && !stage_.words.empty();
      plain_ = plain_ && (option || kSpecial.find(c) == std::string_view::npos);
      in_word_ = true;
      word_ += c;
    }
  }

  void quoted(char quote) {
    for (++at_; at_ < text_.size() && text_[at_] != quote; ++at_) {
      char c = text_[at_];
      if (quote == '"' && c == '$') {
        variable();
        continue;
      }
      if (quote == '"' && c == '`') joined_ = true;
      if (quote == '"' && c == '\\' && at_ + 1 < text_.size() &&
          std::string_view("$`\"\\").find(text_[at_ + 1]) != std::string_view::npos) {
        c = text_[++at_];
      }
      word_ += c;
    }
    if (at_ >= text_.size()) fail_usage("recipe '{}': a quote is not closed", text_);
  }

  // At '$'; ends at the last character of the name.
  void variable() {
    const bool braces = at_ + 1 < text_.size() && text_[at_ + 1] == '{';
    std::size_t end = at_ + (braces ? 2 : 1);
    const std::size_t begin = end;
    const auto named = [](char c) {
      return c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    };
    while (end < text_.size() && named(text_[end])) ++end;
    const auto found = variables_.find(std::string(text_.substr(begin, end - begin)));
    if (found == variables_.end() || (braces && (end >= text_.size() || text_[end] != '}'))) {
      if (at_ + 1 < text_.size() && text_[at_ + 1] == '(') joined_ = true;
      plain_ = false;
      return;
    }
    word_ += found->second;
    at_ = braces ? end : end - 1;
  }

  void end_word() {
    if (in_word_) stage_.words.push_back(std::move(word_));
    word_.clear();
    in_word_ = false;
  }

  void end_stage() {
    end_word();
    if (stage_.words.empty()) fail_usage("recipe '{}': a stage is empty", text_);
    std::string_view text = text_.substr(begin_, at_ - begin_);
    while (is_blank(text.front())) text.remove_prefix(1);
    while (is_blank(text.back())) text.remove_suffix(1);
    stage_.text = text;
    if (!plain_) stage_.words.clear();
    stages_.push_back(std::move(stage_));
    stage_ = {};
    plain_ = true;
  }

  std::string_view text_;
  const std::map<std::string, std::string>& variables_;
  std::size_t at_ = 0, begin_ = 0;  // of the stage
  std::string word_;
  bool in_word_ = false, plain_ = true, joined_ = false;
  StageText stage_;
  std::vector<StageText> stages_;
};

}  // namespace

std::vector<StageText> parse_recipe(std::string_view text,
                                    const std::map<std::string, std::string>& variables) {
  return Parser(text, variables).run();
}

}  // namespace kv
