#include "kv/tune/training_set.hh"

#include <algorithm>
#include <numeric>
#include <random>

namespace kv {
namespace {

void add_completion(TrainingText& text, const std::string& completion, const Tokenizer& tokenizer,
                    std::int32_t eos) {
  text.prompt = std::ssize(text.ids);
  const std::vector<TokenId> ids = tokenizer.encode(completion);
  text.ids.insert(text.ids.end(), ids.begin(), ids.end());
  text.ids.push_back(eos);
}

TrainingText text_of(const Prompt& prompt, const Tokenizer& tokenizer,
                     const TrainingOptions& options) {
  TrainingText text;
  for (const std::vector<TokenId>& ids : part_ids(prompt, tokenizer, options.chat)) {
    text.ids.insert(text.ids.end(), ids.begin(), ids.end());
  }
  add_completion(text, prompt.completion, tokenizer, options.eos);
  return text;
}

std::vector<TrainingText> answers_of(const Prompt& prompt, const Tokenizer& tokenizer,
                                     const TrainingOptions& options) {
  std::vector<TrainingText> texts;
  std::vector<ChatMessage> before;
  for (const PromptMessage& message : prompt.messages) {
    if (message.role == "assistant" && !message.content.empty() && !before.empty()) {
      TrainingText& text = texts.emplace_back();
      text.ids = tokenizer.encode(chat_prompt(tokenizer.chat_template(), before),
                                  /*parse_special=*/true);
      add_completion(text, message.content, tokenizer, options.eos);
    }
    before.push_back({message.role, message.content});
  }
  return texts;
}

void check(const TrainingText& text, const std::string& place, const TrainingOptions& options) {
  if (options.most_tokens > 0 && std::ssize(text.ids) > options.most_tokens) {
    fail_input("{}: {} tokens, more than {}", place, text.ids.size(), options.most_tokens);
  }
  for (const std::int32_t id : text.ids) {
    if (id < 0 || id >= options.vocab) {
      fail_input("{}: token id {}: the model has {}", place, id, options.vocab);
    }
  }
}

}  // namespace

std::vector<std::vector<std::int32_t>> part_ids(const Prompt& prompt, const Tokenizer& tokenizer,
                                                bool chat) {
  std::vector<std::vector<std::int32_t>> ids;
  for (const std::string& part : prompt.parts) {
    ids.push_back(prompt_ids(tokenizer, part, chat, ids.empty()));
  }
  return ids;
}

std::vector<TrainingText> training_texts(const std::vector<Prompt>& prompts,
                                         const Tokenizer& tokenizer,
                                         const TrainingOptions& options) {
  std::vector<TrainingText> texts;
  for (const Prompt& prompt : prompts) {
    std::vector<TrainingText> added = prompt.messages.empty()
                                          ? std::vector{text_of(prompt, tokenizer, options)}
                                          : answers_of(prompt, tokenizer, options);
    for (TrainingText& text : added) {
      check(text, prompt.place, options);
      if (text.prompt == 0) fail_input("{}: no token before the completion", prompt.place);
      texts.push_back(std::move(text));
    }
  }
  return texts;
}

BatchOrder::BatchOrder(std::size_t texts, std::size_t batch, std::uint64_t seed)
    : texts_(texts), batch_(batch), seed_(seed), round_(0) {
  draw(0);
}

void BatchOrder::draw(std::uint64_t round) {
  round_ = round;
  order_.resize(texts_);
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  // Not std::shuffle, which is free to draw as it likes.
  std::mt19937_64 random(seed_ + 0x9E3779B97F4A7C15 * (round + 1));
  for (std::size_t i = texts_; i > 1; --i) std::swap(order_[i - 1], order_[random() % i]);
}

std::vector<std::size_t> BatchOrder::batch(std::int64_t step) {
  std::vector<std::size_t> taken;
  for (std::size_t i = 0; i < batch_; ++i) {
    const std::uint64_t at = static_cast<std::uint64_t>(step) * batch_ + i;
    if (at / texts_ != round_) draw(at / texts_);
    taken.push_back(order_[at % texts_]);
  }
  return taken;
}

}  // namespace kv
