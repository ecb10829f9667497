// The vectors under kvconvert: the bits of the plain loops, whatever the machine has.
#include "kv/container/rope.hh"
#include "kv/convert/float_rows.hh"
#include "kv/convert/transpose.hh"
#include "kv/kernels/vector_target.hh"

#include <doctest/doctest.h>

#include <array>
#include <random>

using namespace kv;

namespace {

constexpr std::array<DType, 3> kTypes = {DType::kF32, DType::kF16, DType::kBF16};

// All there are of 16 bits; of f32 those, and around the bounds of both others.
Bytes values_of(DType type) {
  Bytes bytes;
  const auto add = [&](const auto& value) {
    const auto of = std::as_bytes(std::span(&value, 1));
    bytes.insert(bytes.end(), of.begin(), of.end());
  };
  std::mt19937 random(5);
  for (std::uint32_t i = 0; i < 1u << 16; ++i) {
    if (type != DType::kF32) {
      add(static_cast<std::uint16_t>(i));
    } else {
      add(i << 16);
      add(static_cast<std::uint32_t>(random()));
      add((i << 13) + 0x38000000u + static_cast<std::uint32_t>(random() % 3));
      add(0x33000000u + (i << 11));  // subnormals of f16
    }
  }
  return bytes;
}

}  // namespace

TEST_CASE("values as convert() makes them") {
  for (const VectorTarget target : vector_targets()) {
    set_vector_target(target);
    for (const DType from : kTypes) {
      const Bytes values = values_of(from);
      for (const DType to : kTypes) {
        if (from == to) continue;  // convert() copies them
        CAPTURE(std::string(vector_target_name(target)));
        CAPTURE(dtype_name(from));
        CAPTURE(dtype_name(to));
        const std::size_t count = values.size() / dtype_size_bytes(from) - 3;  // no whole vectors
        const ByteView in = ByteView(values).first(count * dtype_size_bytes(from));
        Bytes wanted(count * dtype_size_bytes(to)), found(wanted.size() + 1, std::byte{0x5A});
        convert(in, from, wanted, to);
        convert_floats(in, from, std::span(found).first(wanted.size()), to);
        CHECK(found.back() == std::byte{0x5A});
        found.pop_back();
        CHECK(found == wanted);
      }
    }
  }
  set_vector_target(vector_targets().front());
}

TEST_CASE("keys as RopeTable turns them") {
  constexpr std::int64_t kHeads = 3, kDim = 64;
  const RopeTable table({.theta = 500.0}, kDim, 1000, 4, RopeTable::Turn::kForth);
  std::vector<float> keys(kHeads * kDim);
  std::mt19937 random(9);
  for (float& key : keys) key = std::normal_distribution<float>(0, 3)(random);
  for (const VectorTarget target : vector_targets()) {
    set_vector_target(target);
    for (const DType from : kTypes) {
      for (const DType to : kTypes) {
        CAPTURE(dtype_name(from));
        CAPTURE(dtype_name(to));
        Bytes in(keys.size() * dtype_size_bytes(from));
        convert(std::as_bytes(std::span(keys)), DType::kF32, in, from);
        std::vector<float> turned(keys.size());
        convert(in, from, std::as_writable_bytes(std::span(turned)), DType::kF32);
        table.turn(2, kHeads, turned);
        Bytes wanted(keys.size() * dtype_size_bytes(to)), found(wanted.size());
        convert(std::as_bytes(std::span(turned)), DType::kF32, wanted, to);
        turn_floats(in, from, {table.cosines(2), table.sines(2), table.half()}, found, to);
        CHECK(found == wanted);
      }
    }
  }
  set_vector_target(vector_targets().front());
}

TEST_CASE("matrices of all shapes transposed") {
  for (const std::size_t element : {1u, 2u, 4u, 6u}) {
    for (const std::size_t rows : {1u, 2u, 7u, 8u, 33u, 40u}) {
      for (const std::size_t columns : {1u, 2u, 5u, 8u, 17u, 32u}) {
        for (const std::size_t gap : {0u, 3u}) {
          CAPTURE(element);
          CAPTURE(rows);
          CAPTURE(columns);
          const std::size_t from_stride = columns * element + gap, to_stride = rows * element + gap;
          Bytes from(rows * from_stride), to(columns * to_stride, std::byte{0});
          for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 7 + 1);
          transpose(from.data(), from_stride, rows, columns, element, to.data(), to_stride);
          bool same = true;
          for (std::size_t r = 0; r < rows; ++r) {
            for (std::size_t c = 0; c < columns; ++c) {
              same = same && std::equal(&from[r * from_stride + c * element],
                                        &from[r * from_stride + c * element] + element,
                                        &to[c * to_stride + r * element]);
            }
          }
          CHECK(same);
          for (std::size_t c = 0; c < columns && gap > 0; ++c) {
            CHECK(to[c * to_stride + rows * element] == std::byte{0});
          }
        }
      }
    }
  }
}
