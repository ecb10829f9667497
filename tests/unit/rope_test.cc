// Angles against transformers, and keys there and back.
#include "kv/container/rope.hh"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using kv::Rope;

namespace {

// transformers 5.24.0, torch 2.11.0, on LlamaConfig(head_dim=16, max_position_embeddings=8192,
// rope_parameters=P): ROPE_INIT_FUNCTIONS[P["rope_type"]](config, "cpu"), for "default"
// LlamaRotaryEmbedding(config).inv_freq; and of position 4095 the cosines and sines of
// LlamaRotaryEmbedding(config)(zeros(1, 1), tensor([[4095]])).
struct Reference {
  const char* name;
  Rope rope;
  std::vector<float> frequencies, cosines, sines;
};

const std::vector<Reference>& references() {
  static const std::vector<Reference> all = {
      {"default, rope_theta 1e4",
       {},
       {0x1p+0f, 0x1.43d136p-2f, 0x1.99999ap-4f, 0x1.030dc6p-5f, 0x1.47ae14p-7f, 0x1.9e7c7p-9f,
        0x1.0624dep-10f, 0x1.4b96cp-12f},
       {-0.0659759939f, 0.815928221f, 0.459863335f, -0.771254778f, -0.994033098f, 0.927488983f,
        -0.578907907f, 0.272358716f},
       {-0.997821212f, 0.578153193f, 0.8879897f, -0.636526585f, -0.109078795f, 0.373850524f,
        -0.815392911f, 0.962195814f}},
      {"linear, factor 8, rope_theta 1e6",
       {.theta = 1e6, .scaling = Rope::Scaling::kLinear, .factor = 8},
       {0x1p-3f, 0x1.6c310ep-6f, 0x1.030dc6p-8f, 0x1.708938p-11f, 0x1.0624dep-13f, 0x1.74eea6p-16f,
        0x1.094564p-18f, 0x1.796182p-21f},
       {-0.979141831f, -0.996760488f, -0.887480497f, -0.965586305f, 0.871827602f, 0.99586004f,
        0.999868989f, 0.999995887f},
       {0.203178003f, 0.0804270804f, -0.460845232f, 0.260082781f, 0.489812821f, 0.0909000337f,
        0.0161862019f, 0.00287848082f}},
      {"llama3, factor 32, low 1, high 4, original 8192, rope_theta 5e5",
       {.theta = 5e5, .scaling = Rope::Scaling::kLlama3, .factor = 32, .original_context = 8192},
       {0x1p+0f, 0x1.8d276p-3f, 0x1.341190p-5f, 0x1.ddee9ep-8f, 0x1.c26c4p-12f, 0x1.1f91fp-17f,
        0x1.be2188p-20f, 0x1.5a0f4ep-22f},
       {-0.0659759939f, -0.758861721f, -0.998280644f, 0.0183331184f, -0.187128738f, 0.999384224f,
        0.999976873f, 0.999999106f},
       {-0.997821212f, 0.651251793f, -0.0586152002f, -0.999831915f, 0.982335389f, 0.0350879915f,
        0.00680570398f, 0.00131979072f}},
      {"yarn, factor 4, original 32768, rope_theta 1e6",
       {.theta = 1e6,
        .scaling = Rope::Scaling::kYarn,
        .factor = 4,
        .original_context = 32768,
        .attention_factor = 1.138629436111989},
       {0x1p+0f, 0x1.6c310ep-3f, 0x1.030dc6p-5f, 0x1.1466eap-8f, 0x1.0624dep-11f, 0x1.74eea6p-15f,
        0x1.094564p-17f, 0x1.796182p-20f},
       {-0.0751222074f, 0.910485744f, -0.878173411f, -0.00893955957f, -0.5224635f, 1.11981285f,
        1.13803279f, 1.1386106f},
       {-1.13614857f, -0.683734298f, -0.724767923f, -1.13859439f, 1.01168609f, 0.206145912f,
        0.03685534f, 0.00655501895f}},
      {"yarn, factor 32, original 4096, truncate False, rope_theta 1.5e5",
       {.theta = 1.5e5,
        .scaling = Rope::Scaling::kYarn,
        .factor = 32,
        .original_context = 4096,
        .attention_factor = 1.3465735902799727,
        .yarn_truncate = false},
       {0x1p+0f, 0x1.cda7f4p-3f, 0x1.a04328p-5f, 0x1.bd508p-8f, 0x1.dea878p-12f, 0x1.31265p-16f,
        0x1.132518p-18f, 0x1.f02e5p-21f},
       {-0.0888415277f, 1.1539216f, 0.998715103f, -1.21311712f, -0.396016508f, 1.34284031f,
        1.34638381f, 1.34656394f},
       {-1.34363973f, -0.69406426f, 0.903232336f, 0.584471703f, 1.28702426f, 0.100201771f,
        0.0226071179f, 0.00509627862f}}};
  return all;
}

std::vector<float> keys(std::int64_t tokens, std::int64_t row) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < tokens * row; ++i) {
    values.push_back(static_cast<float>(std::sin(0.37 * static_cast<double>(i))) * 3);
  }
  return values;
}

}  // namespace

TEST_CASE("frequencies are transformers', to the last place but one") {
  for (const Reference& reference : references()) {
    CAPTURE(reference.name);
    const std::vector<float> frequencies = kv::rope_frequencies(reference.rope, 16);
    REQUIRE(frequencies.size() == 8);
    for (std::size_t i = 0; i < 8; ++i) {
      CAPTURE(i);
      CHECK(std::fabs(frequencies[i] / reference.frequencies[i] - 1) <= 0x1p-22f);
    }
  }
}

TEST_CASE("a key of ones at position 4095 shows cosines and sines") {
  for (const Reference& reference : references()) {
    CAPTURE(reference.name);
    std::vector<float> key(16, 0.0f);
    std::fill(key.begin(), key.begin() + 8, 1.0f);
    kv::rotate_keys(reference.rope, 4095, 1, 16, key);
    for (std::size_t i = 0; i < 8; ++i) {
      CAPTURE(i);
      // A last place of the frequency is 4095 of them in the angle.
      const float tolerance = 4095 * reference.frequencies[i] * 0x1p-22f + 1e-6f;
      CHECK(std::fabs(key[i] - reference.cosines[i]) <= tolerance);
      CHECK(std::fabs(key[8 + i] - reference.sines[i]) <= tolerance);
    }
  }
}

TEST_CASE("un-rotated keys are as they were") {
  for (const Reference& reference : references()) {
    const std::vector<float> before = keys(50, 3 * 16);
    std::vector<float> after = before;
    kv::rotate_keys(reference.rope, 100000, 3, 16, after);
    CHECK(after != before);
    kv::unrotate_keys(reference.rope, 100000, 3, 16, after);
    for (std::size_t i = 0; i < before.size(); ++i) {
      CHECK(std::fabs(after[i] - before[i]) <= 6 * 0x1p-21f);
    }
  }
}

TEST_CASE("the pairs of a head are its halves, and each token has its position") {
  const Rope rope{.theta = 100};
  std::vector<float> two = keys(2, 2 * 4), second(two.begin() + 8, two.end());
  const std::vector<float> raw = two;
  kv::rotate_keys(rope, 7, 2, 4, two);
  kv::rotate_keys(rope, 8, 2, 4, second);
  CHECK(std::vector<float>(two.begin() + 8, two.end()) == second);
  // Of the second head at position 7: pair 1 is values 1 and 3, at 7 * 100^(-1/2).
  const double angle = 7 * 0.1;
  CHECK(two[5] == doctest::Approx(raw[5] * std::cos(angle) - raw[7] * std::sin(angle)));
  CHECK(two[7] == doctest::Approx(raw[7] * std::cos(angle) + raw[5] * std::sin(angle)));
}
