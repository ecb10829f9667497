#pragma once
// Little-endian fields in byte buffers. Reading checks `remaining < n` before it touches anything.

#include "kv/base/error.hh"

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kv {

static_assert(std::endian::native == std::endian::little,
              "files are little-endian and tensor views are zero-copy");

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads fields from front to back. `place` names the buffer in messages ("report.kv: META frame").
// Throws kInput when fewer bytes remain than asked for.
class ByteReader {
 public:
  ByteReader(ByteView bytes, std::string_view place) : bytes_(bytes), place_(place) {}

  template <typename T>
  requires std::is_trivially_copyable_v<T> T get() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  ByteView take(std::size_t n) {
    if (remaining() < n) {
      fail_input("{}: byte {}: {} bytes needed, {} left", place_, position_, n, remaining());
    }
    const ByteView part = bytes_.subspan(position_, n);
    position_ += n;
    return part;
  }

  std::size_t remaining() const { return bytes_.size() - position_; }
  std::size_t position() const { return position_; }

 private:
  ByteView bytes_;
  std::string place_;
  std::size_t position_ = 0;
};

// Appends fields.
class ByteWriter {
 public:
  template <typename T>
  requires std::is_trivially_copyable_v<T>
  void put(const T& value) { put_bytes(std::as_bytes(std::span(&value, 1))); }
  void put_bytes(ByteView bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  void put_zeros(std::size_t n) { bytes_.resize(bytes_.size() + n); }

  const Bytes& bytes() const { return bytes_; }
  Bytes take() { return std::move(bytes_); }
  std::size_t size() const { return bytes_.size(); }

 private:
  Bytes bytes_;
};

}  // namespace kv
