#pragma once
// Bytes of a tile as the kernels take them, in memory that is used again. Private to the folder.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

namespace kv {

// Room for values that are all written before they are read: 64-byte aligned, not cleared, and kept
// when less is needed.
template <typename T>
class Room {
 public:
  Room() = default;
  Room(Room&& other) noexcept
      : data_(std::move(other.data_)), capacity_(std::exchange(other.capacity_, 0)) {}
  Room& operator=(Room&& other) noexcept {
    data_ = std::move(other.data_);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }
  T* take(std::size_t count) {
    if (count > capacity_) {
      data_.reset(static_cast<T*>(::operator new(count * sizeof(T), kAlignment)));
      capacity_ = count;
    }
    return data_.get();
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(T* data) const { ::operator delete(data, kAlignment); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t capacity_ = 0;
};

// Tokens of a tile up to the kernels' step.
constexpr std::int64_t stride_of(std::int64_t tokens) { return (tokens + 63) / 64 * 64; }

// From one row of so many tokens to the next. Rows a page apart would fight for the same lines of
// the caches, by all channels of a tile at a time.
constexpr std::int64_t spread_stride_of(std::int64_t tokens) {
  const std::int64_t stride = stride_of(tokens);
  return stride % 256 == 0 ? stride + 64 : stride;
}

// Four values of a token together: u8 [channels / 4][stride][4], each plus 128.
class Quads {
 public:
  // Contents are anything afterwards.
  void shape(std::int64_t channels, std::int64_t tokens) {
    channels_ = channels;
    tokens_ = stride_of(tokens);
    stride_ = spread_stride_of(tokens);
    room_.take(static_cast<std::size_t>(channels * stride_));
  }
  // From this quad on all values become 0.
  void clear(std::int64_t first_quad) {
    std::memset(quad(first_quad), 128,
                static_cast<std::size_t>(channels_ * stride_) -
                    static_cast<std::size_t>(first_quad * stride_ * 4));
  }

  std::uint8_t& at(std::int64_t channel, std::int64_t token) {
    return room_.data()[(channel / 4 * stride_ + token) * 4 + channel % 4];
  }
  int value(std::int64_t channel, std::int64_t token) const {
    return room_.data()[(channel / 4 * stride_ + token) * 4 + channel % 4] - 128;
  }
  std::uint8_t* quad(std::int64_t index) { return room_.data() + index * stride_ * 4; }
  const std::uint8_t* quad(std::int64_t index) const { return room_.data() + index * stride_ * 4; }
  std::int64_t channels() const { return channels_; }
  std::int64_t stride_tokens() const { return stride_; }  // a multiple of 64
  // Of the shape, up to the kernels' step: what a row has of use.
  std::int64_t row_tokens() const { return tokens_; }

 private:
  std::int64_t channels_ = 0, tokens_ = 0, stride_ = 0;
  Room<std::uint8_t> room_;
};

}  // namespace kv
