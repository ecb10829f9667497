#pragma once
// Text to token ids and back, with the ids that the model was trained on: Hugging Face
// tokenizer.json (byte-level BPE), GGUF vocabularies (kinds gpt2 and llama), SentencePiece
// tokenizer.model. No LibTorch. Not for several threads at once: words are remembered.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

using TokenId = std::int32_t;

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// What a Jinja template says, as far as it differs between models of one kind.
struct ChatTemplate {
  std::string name;            // "chatml", "llama3", "llama2", "mistral", "gemma"; empty: none
  std::string default_system;  // what chatml says first when the messages have no system prompt
  // Where the system prompt goes: its own turn, or within a user's message.
  enum class SystemPlace { kTurn, kFirstUser, kLastUser, kNowhere } system = SystemPlace::kTurn;
  // What llama3 says in the system turn before its text, and then without a text too (Llama 3.1:
  // two dates).
  std::string system_lead;
  // What llama2, mistral and gemma put around the messages; the releases differ in the spaces.
  struct Wrap {
    std::string begin, end;
    bool trim = false;  // the message, of white space at its ends
  };
  Wrap user{"[INST] ", " [/INST]"}, assistant{"", "</s>"};
};

class Tokenizer {
 public:
  // `path`: a .gguf file, a tokenizer.json, a tokenizer.model, or a folder with one of the two.
  // Throws kInput on damage or an unsupported kind, kIo when unreadable.
  static std::unique_ptr<Tokenizer> open(const std::string& path);
  // From the text of a tokenizer.json; `place` names it in messages.
  static std::unique_ptr<Tokenizer> from_json(std::string_view json, const std::string& place);
  virtual ~Tokenizer() = default;

  // No BOS or EOS is added. Special tokens written in the text ("<|im_start|>") become their ids
  // if `parse_special`, else they are plain text. Invalid UTF-8 becomes U+FFFD, one for each
  // maximal subpart (Unicode 15, section 3.9), as Python's errors="replace" does.
  virtual std::vector<TokenId> encode(std::string_view text, bool parse_special = false) const = 0;
  // Bytes of the ids, one after another; a token may end within a character. `skip_special`
  // leaves control tokens out. Throws kInput on an id outside the vocabulary.
  virtual std::string decode(std::span<const TokenId> ids, bool skip_special = false) const = 0;

  virtual std::size_t size() const = 0;
  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  // Whether the tokenizer's own post-processor puts BOS first.
  virtual bool adds_bos() const = 0;
  virtual std::optional<TokenId> find(std::string_view piece) const = 0;
  // 32 hex digits over vocabulary, merges and rules.
  virtual std::string fingerprint() const = 0;
  virtual ChatTemplate chat_template() const = 0;
};

// Recognises a Jinja template by the special tokens in it. Not the template's conditions: what it
// says of tools, or of the time of day, is left out.
ChatTemplate recognise_chat_template(std::string_view jinja);

// The prompt text (with special tokens spelled out) of a conversation, ended where the assistant
// speaks. A system prompt is the first message. Throws kUsage when the template has no name, or no
// place for such messages.
std::string chat_prompt(const ChatTemplate& chat, std::span<const ChatMessage> messages);
// One more turn behind what a cache holds: no system prompt and nothing of what begins a
// conversation. Throws as chat_prompt().
std::string chat_turn(const ChatTemplate& chat, const ChatMessage& message);

// What a model is given for a prompt: with `chat` as a user's turn in the tokenizer's template,
// else as it is; with `begins` as the beginning of a context, else behind one. BOS comes first
// where the tokenizer adds it, but a template says itself where it wants one. Throws as
// chat_prompt().
std::vector<TokenId> prompt_ids(const Tokenizer& tokenizer, const std::string& prompt, bool chat,
                                bool begins);

// Ids of a stream put together to whole UTF-8 characters: push() returns what can be shown now.
class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  std::string push(TokenId id);
  std::string finish();  // what is left of an unfinished character, as U+FFFD

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;
};

}  // namespace kv
