#include "kv/checkpoint/checkpoint.hh"

#include "kv/checkpoint/card.hh"
#include "kv/checkpoint/dequantize.hh"
#include "kv/checkpoint/hf_config.hh"
#include "kv/checkpoint/rope_divisors.hh"
#include "kv/checkpoint/safetensors.hh"
#include "kv/gguf/gguf.hh"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <utility>

namespace {

std::string file_text(const std::string& name) {
  std::ifstream file(std::string(KV_TEST_FOLDER) + "/" + name, std::ios::binary);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

kv::Mapping mapped(const std::string& bytes) {
  const kv::Fd fd(memfd_create("checkpoint", 0));
  REQUIRE(write(fd.number(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  return kv::Mapping(fd.number(), bytes.size(), "memory");
}

template <typename File>
void check_truncations(const std::string& name) {
  const std::string whole = file_text(name);
  CHECK_NOTHROW(File(mapped(whole), "whole"));
  for (std::size_t n = 1; n < whole.size(); ++n) {
    CHECK_THROWS_AS(File(mapped(whole.substr(0, n)), "cut"), kv::Error);
  }
}

std::vector<float> dequantized(kv::WeightType type, const std::vector<std::uint8_t>& block) {
  const kv::BlockShape shape = kv::block_shape(type);
  REQUIRE(block.size() == shape.size_bytes);
  std::vector<float> out(static_cast<std::size_t>(shape.count));
  kv::dequantize(type, reinterpret_cast<const std::byte*>(block.data()), out);
  return out;
}

kv::ModelConfig config_of(const std::string& more) {
  return kv::hf_config(
      R"({"vocab_size":100,"hidden_size":64,"intermediate_size":96,"num_attention_heads":4,)"
      R"("num_key_value_heads":2,"num_hidden_layers":4,"max_position_embeddings":512,)"
      R"("rms_norm_eps":1e-5,"eos_token_id":[2,3])" +
          more + "}",
      "", "config.json");
}

}  // namespace

TEST_CASE("every truncation of a small file is refused") {
  check_truncations<kv::GgufFile>("fuzz/corpus/gguf/small");
  check_truncations<kv::SafetensorsFile>("fuzz/corpus/safetensors/small");
  CHECK_THROWS_AS(kv::SafetensorsFile(mapped(file_text("fuzz/corpus/safetensors/hole")), "hole"),
                  kv::Error);
}

TEST_CASE("blocks by hand") {
  // d = 0.5 (0x3800), m = -1 (0xBC00); nibbles count up in the low and down in the high half.
  std::vector<std::uint8_t> block = {0x00, 0x38, 0x00, 0xBC};
  for (int j = 0; j < 16; ++j) block.push_back(static_cast<std::uint8_t>(j | (15 - j) << 4));
  const std::vector<float> q4_1 = dequantized(kv::WeightType::kQ4_1, block);
  for (std::size_t j = 0; j < 16; ++j) {
    CHECK(q4_1[j] == 0.5f * static_cast<float>(j) - 1);
    CHECK(q4_1[j + 16] == 0.5f * static_cast<float>(15 - j) - 1);
  }
  block.erase(block.begin() + 2, block.begin() + 4);
  const std::vector<float> q4_0 = dequantized(kv::WeightType::kQ4_0, block);
  for (std::size_t j = 0; j < 16; ++j) {
    CHECK(q4_0[j] == 0.5f * (static_cast<float>(j) - 8));
    CHECK(q4_0[j + 16] == 0.5f * (7 - static_cast<float>(j)));
  }
  block.insert(block.begin() + 2, {0x01, 0x00, 0x01, 0x00});  // fifth bits of values 0 and 16
  const std::vector<float> q5_0 = dequantized(kv::WeightType::kQ5_0, block);
  CHECK(q5_0[0] == 0.0f);
  CHECK(q5_0[1] == 0.5f * (1 - 16));
  CHECK(q5_0[16] == 0.5f * 15);
}

TEST_CASE("configurations of the families") {
  const kv::ModelConfig llama = config_of(
      R"(,"model_type":"llama","rope_theta":5e5,"rope_scaling":{"rope_type":"llama3","factor":8,)"
      R"("low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":256})");
  CHECK(llama.layers.size() == 4);
  CHECK(llama.layers[0].rope.scaling == kv::Rope::Scaling::kLlama3);
  CHECK(llama.layers[0].rope.theta == 5e5);
  CHECK(llama.layers[0].k_dim == 16);
  CHECK(llama.eos_ids == std::vector<std::int32_t>{2, 3});
  CHECK(config_of(R"(,"model_type":"mistral","sliding_window":32)").layers[3].window == 32);
  CHECK(config_of(R"(,"model_type":"qwen2","sliding_window":32)").layers[3].window == 0);
  const kv::ModelConfig qwen2 = config_of(
      R"(,"model_type":"qwen2","use_sliding_window":true,"sliding_window":32,"max_window_layers":2)");
  CHECK(qwen2.attention_bias);
  CHECK_FALSE(qwen2.output_bias);
  CHECK(qwen2.layers[1].window == 0);
  CHECK(qwen2.layers[2].window == 32);
  CHECK(config_of(R"(,"model_type":"qwen3","head_dim":32)").layers[0].k_dim == 32);
}

TEST_CASE("configurations that are refused") {
  for (const char* bad : {R"(,"model_type":"gpt2")", R"(,"model_type":"llama","hidden_act":"gelu")",
                          R"(,"model_type":"llama","num_key_value_heads":3)",
                          R"(,"model_type":"llama","rope_scaling":{"type":"dynamic","factor":2})",
                          R"(,"model_type":"llama","vocab_size":-1)"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(config_of(bad), kv::Error);
  }
  CHECK_THROWS_AS(kv::hf_config("[]", "", "x"), kv::Error);
  CHECK_THROWS_AS(kv::hf_config("{", "", "x"), kv::Error);
}

TEST_CASE("Llama 3's RoPE scaling from its divisors") {
  using kv::scaling_of_divisors;
  // By hand: wave lengths 2 pi times 1, 10, 100 and 1000, a context of 600 tokens. The first two
  // are below 150; 628.3 and 6283 are above 600 and stretched.
  kv::Rope rope{.theta = 1e4};
  const float plain[] = {1, 1, 1, 1};
  CHECK(scaling_of_divisors(rope, plain) == rope);
  rope.original_context = 600;
  const float stretched[] = {1, 1, 8, 8};
  std::optional<kv::Rope> found = scaling_of_divisors(rope, stretched);
  REQUIRE(found);
  CHECK(found->scaling == kv::Rope::Scaling::kLlama3);
  CHECK(found->factor == 8);
  CHECK(found->original_context == 600);
  // Without a blended pair and of another context there is no telling which.
  rope.original_context = 131072;
  CHECK_FALSE(scaling_of_divisors(rope, stretched));
  // One pair blended tells it: at a context of 1000, s = (1000 / 628.3 - 1) / 3.
  const double s = (1000 / (200 * 3.14159265358979) - 1) / 3;
  float blended[] = {1, 1, static_cast<float>(1 / ((1 - s) / 8 + s)), 8};
  found = scaling_of_divisors(rope, blended);
  REQUIRE(found);
  CHECK(found->original_context == 1000);
  for (const float bad : {0.f, -8.f, 7.9f, 1e30f, INFINITY, NAN}) {
    CAPTURE(bad);
    for (float& divisor : blended) {
      const float kept = std::exchange(divisor, bad);
      CHECK_FALSE(scaling_of_divisors(rope, blended));
      divisor = kept;
    }
  }
}

TEST_CASE("a model that is not there is named with the places searched") {
  try {
    kv::find_model("no-such-model");
    FAIL("found");
  } catch (const kv::Error& error) {
    CHECK(error.kind() == kv::ErrorKind::kDevice);
    CHECK(std::string(error.what()).find("kvtools/models") != std::string::npos);
  }
}

TEST_CASE("the embedded model") {
  const std::string path = std::string(KV_TEST_FOLDER) + "/../.deps/models/smollm2.gguf";
  if (access(path.c_str(), R_OK) != 0) {
    MESSAGE("skipped: the embedded model is not there");
    return;
  }
  const auto checkpoint = kv::Checkpoint::open(path);
  const kv::ModelConfig& config = checkpoint->config();
  CHECK(config.layers.size() == 30);
  CHECK(config.tied_head);
  CHECK(config.layers[0].kv_heads == 3);
  CHECK(checkpoint->fingerprint() == kv::Checkpoint::open(path)->fingerprint());
  // Whole rows anywhere are those of the whole matrix.
  const kv::WeightView& keys = checkpoint->weight("model.layers.3.self_attn.k_proj.weight");
  std::vector<float> all(static_cast<std::size_t>(keys.count()));
  checkpoint->read_f32(keys, 0, all);
  std::vector<float> row(576);
  for (const std::int64_t r : {0, 1, 31, 32, 100, 191}) {
    checkpoint->read_f32(keys, r * 576, row);
    CHECK(std::equal(row.begin(), row.end(), all.begin() + r * 576));
  }
  CHECK(kv::card_text(*checkpoint).find("23040 B bf16") != std::string::npos);
}
