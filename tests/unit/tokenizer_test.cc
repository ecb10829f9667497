#include "kv/tokenizer/tokenizer.hh"

#include "kv/base/error.hh"
#include "kv/checkpoint/checkpoint.hh"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace {

std::string corpus(const std::string& name) {
  std::ifstream file(std::string(KV_TEST_FOLDER) + "/fuzz/corpus/tokenizer_json/" + name);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::unique_ptr<kv::Tokenizer> smollm2() {
  return kv::Tokenizer::open(
      kv::find_model(std::string(KV_TEST_FOLDER) + "/../.deps/models/smollm2.gguf"));
}

bool has_model() {
  std::ifstream file(std::string(KV_TEST_FOLDER) + "/../.deps/models/smollm2.gguf");
  if (!file) MESSAGE("skipped: the embedded model is not there");
  return file.good();
}

constexpr const char* kTexts[] = {
    "Hello, world!",
    "It's 2024 and I'LL be  there\n\n\t  now.  ",
    "naïve café Ünïcödé — “quotes” …",
    "日本語のテキスト 한국어 中文",
    "👨‍👩‍👧‍👦 🇩🇪 👍🏽 é",
    "مرحبا بالعالم שלום",
    "a\r\nb\rc   d\u00a0e\u2003f\u180eg",
    "",
    " ",
    "\x01\x02\x7f",
};

}  // namespace

TEST_CASE("valid text comes back") {
  if (!has_model()) return;
  const auto tokenizer = smollm2();
  for (const std::string text : kTexts) {
    CAPTURE(text);
    CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
  }
}

TEST_CASE("ids that Hugging Face's tokenizers 0.23 gives with SmolLM2's vocabulary") {
  if (!has_model()) return;
  const auto tokenizer = smollm2();
  using Ids = std::vector<kv::TokenId>;
  CHECK(tokenizer->encode("Hello, world!") == Ids{19556, 28, 905, 17});
  CHECK(tokenizer->encode("<|im_start|>", true) == Ids{1});
  CHECK(tokenizer->encode("<|im_start|>", false).size() > 1);
}

TEST_CASE("invalid UTF-8 is replaced, one mark for each maximal subpart") {
  if (!has_model()) return;
  const auto tokenizer = smollm2();
  const auto through = [&](const std::string& text) {
    return tokenizer->decode(tokenizer->encode(text));
  };
  // Unicode 15, table 3-11: C0 AF E0 80 BF and 3-8.
  CHECK(through("\xC0\xAF") == "\uFFFD\uFFFD");
  CHECK(through("a\xF1\x80\x80\xE1\x80\xC2"
                "b\x80"
                "c\x80\xBF"
                "d") == "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  CHECK(through("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD");
  CHECK(through("x\xF0\x9F\x91") == "x\uFFFD");
}

TEST_CASE("a stream shows whole characters only") {
  if (!has_model()) return;
  const auto tokenizer = smollm2();
  const std::string text = "x 👨‍👩‍👧‍👦 日本 y";
  kv::TextStream stream(*tokenizer);
  std::string shown;
  for (const kv::TokenId id : tokenizer->encode(text)) {
    const std::string piece = stream.push(id);
    CHECK(piece.find("\uFFFD") == std::string::npos);
    shown += piece;
  }
  CHECK(shown + stream.finish() == text);
}

TEST_CASE("the chat template as transformers renders it") {
  if (!has_model()) return;
  const kv::ChatTemplate chat = smollm2()->chat_template();
  CHECK(chat.name == "chatml");
  const kv::ChatMessage hi{"user", "Hi"};
  CHECK(kv::chat_prompt(chat, {&hi, 1}) ==
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
        "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  CHECK(kv::chat_turn(chat, hi) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  CHECK(kv::chat_prompt({.name = "llama3"}, {&hi, 1}) ==
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n");
  CHECK_THROWS_AS(kv::chat_prompt({}, {&hi, 1}), kv::Error);
}

TEST_CASE("Mistral's spaces are those of its template") {
  const kv::ChatMessage hi{"user", "Hi"};
  const auto prompt = [&](const char* jinja) {
    return kv::chat_prompt(kv::recognise_chat_template(jinja), {&hi, 1});
  };
  CHECK(prompt("{{ bos_token }}{{ '[INST] ' + message['content'] + ' [/INST]' }}") ==
        "<s>[INST] Hi [/INST]");
  CHECK(prompt("{{- bos_token }}{{- \" [INST] \" + message[\"content\"] + \" [/INST]\" }}") ==
        "<s> [INST] Hi [/INST]");
  CHECK(prompt("{{- '[INST] ' + message['content'] + '[/INST]' }}") == "<s>[INST] Hi[/INST]");
}

TEST_CASE("a prompt has one BOS") {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("kv-tokenizer-test-" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  std::ofstream(folder / "tokenizer.json")
      << R"({"model":{"type":"BPE","byte_fallback":true,"merges":[],
      "vocab":{"<s>":0,"</s>":1,"a":2,"[":3,"]":4,"/":5,"I":6}},
      "added_tokens":[{"id":0,"content":"<s>","special":true}],
      "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}}]}})";
  std::ofstream(folder / "chat_template.jinja")
      << "{{ '<<SYS>>' }}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}";
  const auto tokenizer = kv::Tokenizer::open(folder);
  std::filesystem::remove_all(folder);
  using Ids = std::vector<kv::TokenId>;
  CHECK(kv::prompt_ids(*tokenizer, "a", false, true) == Ids{0, 2});
  CHECK(kv::prompt_ids(*tokenizer, "a", false, false) == Ids{2});
  const Ids chat = kv::prompt_ids(*tokenizer, "a", true, true);
  CHECK(std::ranges::count(chat, 0) == 1);
  CHECK(chat.front() == 0);
}

TEST_CASE("system prompts have their place, or are refused") {
  const kv::ChatMessage talk[] = {
      {"system", "S"}, {"user", "A"}, {"assistant", "B"}, {"user", "C"}};
  kv::ChatTemplate chat{.name = "mistral"};
  chat.system = kv::ChatTemplate::SystemPlace::kFirstUser;
  CHECK(kv::chat_prompt(chat, talk) == "<s>[INST] S\n\nA [/INST]B</s>[INST] C [/INST]");
  chat.system = kv::ChatTemplate::SystemPlace::kLastUser;
  CHECK(kv::chat_prompt(chat, talk) == "<s>[INST] A [/INST]B</s>[INST] S\n\nC [/INST]");
  CHECK_THROWS_AS(kv::chat_prompt(chat, std::span(talk, 3)), kv::Error);
  chat.system = kv::ChatTemplate::SystemPlace::kNowhere;
  CHECK_THROWS_AS(kv::chat_prompt(chat, talk), kv::Error);
  CHECK(kv::recognise_chat_template("[INST] [SYSTEM_PROMPT]").name.empty());
  // Templates that end early or hold nothing.
  for (const char* jinja : {"[INST]{{", "{{'[INST]", "{{ '[INST]\\", "{{[INST]+}}", "{{ + }}[INST]",
                            "<|start_header_id|>Cutting Knowledge Date set date_string = '"}) {
    CAPTURE(jinja);
    CHECK_FALSE(kv::recognise_chat_template(jinja).name.empty());
  }
}

TEST_CASE("files that differ have different fingerprints") {
  const std::string file = corpus("byte_level");
  const auto fingerprint = [](const std::string& text) {
    return kv::Tokenizer::from_json(text, "-")->fingerprint();
  };
  CHECK(fingerprint(file) == fingerprint(file + "\n"));
  std::string other_pattern = file;
  const std::string digits = R"("individual_digits": true)";
  other_pattern.replace(file.find(digits), digits.size(), R"("individual_digits": false)");
  CHECK(fingerprint(file) != fingerprint(other_pattern));
  CHECK(fingerprint(file) != fingerprint(corpus("sentencepiece")));
}

TEST_CASE("a pattern that backtracks without end is given up") {
  const std::string file =
      R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"pre_tokenizer":{"type":"Sequence",
      "pretokenizers":[{"type":"Split","pattern":{"Regex":"(a+)+b\\1"},"behavior":"Isolated"},
      {"type":"ByteLevel","use_regex":false}]}})";
  const auto tokenizer = kv::Tokenizer::from_json(file, "bomb");
  CHECK_THROWS_AS(tokenizer->encode(std::string(64, 'a') + "bc" + std::string(64, 'a')), kv::Error);
}

TEST_CASE("tokenizer.json of both kinds") {
  const auto bytes = kv::Tokenizer::from_json(corpus("byte_level"), "byte_level");
  CHECK(bytes->decode(bytes->encode("it is 12 \u00e9")) == "it is 12 \u00e9");
  CHECK(bytes->encode("it").size() == 1);
  CHECK(bytes->encode("e\u0301") == bytes->encode("\u00e9"));  // NFC
  CHECK(bytes->encode("<|end|>", true).size() == 1);
  const auto pieces = kv::Tokenizer::from_json(corpus("sentencepiece"), "sentencepiece");
  CHECK(pieces->encode("it it!") == std::vector<kv::TokenId>{5, 5, 6});
  CHECK(pieces->decode(std::vector<kv::TokenId>{5, 6}) == " it!");
}

TEST_CASE("every truncation of a tokenizer.json is refused") {
  const std::string text = corpus("sentencepiece");
  for (std::size_t n = 0; n < text.size(); ++n) {
    CHECK_THROWS_AS(kv::Tokenizer::from_json(text.substr(0, n), "cut"), kv::Error);
  }
  CHECK_THROWS_AS(kv::Tokenizer::from_json(std::string(1000, '['), "deep"), kv::Error);
}
