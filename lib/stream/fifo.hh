#pragma once
// A queue in contiguous memory: what it holds can be copied and searched as one span. Equal when
// what is in it is equal, whatever went through it before.

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace kv {

template <typename T>
class Fifo {
 public:
  std::size_t size() const { return items_.size() - head_; }
  bool empty() const { return head_ == items_.size(); }

  void push(T item) { items_.push_back(std::move(item)); }
  void append(std::span<const T> more) { items_.insert(items_.end(), more.begin(), more.end()); }
  // The first n leave. Their memory is used again as soon as they are half of it.
  void pop(std::size_t n) {
    head_ += n;
    if (head_ == items_.size()) {
      items_.clear();
      head_ = 0;
    } else if (head_ > 32 && head_ * 2 > items_.size()) {
      items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
  }
  void clear() { pop(size()); }

  T& operator[](std::size_t i) { return items_[head_ + i]; }
  const T& operator[](std::size_t i) const { return items_[head_ + i]; }
  T& front() { return items_[head_]; }
  const T& front() const { return items_[head_]; }
  const T& back() const { return items_.back(); }
  std::span<const T> view() const { return std::span(items_).subspan(head_); }
  auto begin() const { return items_.begin() + static_cast<std::ptrdiff_t>(head_); }
  auto end() const { return items_.end(); }

  friend bool operator==(const Fifo& a, const Fifo& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  std::vector<T> items_;
  std::size_t head_ = 0;
};

}  // namespace kv
