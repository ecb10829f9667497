#pragma once
// How a state machine becomes bytes and comes back: each has fields(self, f), which names its
// members once, for both ways. Private to the folder; the bytes are read only by the build that
// wrote them, but damaged ones are refused and not believed: StateReader throws kInput when they
// end too early, and each machine checks what must hold between its members.

#include "kv/base/bytes.hh"
#include "kv/stream/fifo.hh"

#include <map>
#include <optional>

namespace kv {

template <typename T>
concept PlainField = std::is_arithmetic_v<T> || std::is_enum_v<T>;

class StateWriter {
 public:
  template <typename... T>
  void operator()(const T&... fields) {
    (put(fields), ...);
  }
  Bytes take() { return out_.take(); }

 private:
  template <PlainField T>
  void put(const T& value) {
    out_.put(value);
  }
  void put(const bool& value) { out_.put(static_cast<std::uint8_t>(value)); }
  template <typename T>
  void put(const std::optional<T>& value) {
    put(value.has_value());
    if (value) put(*value);
  }
  template <typename T>
  void put(const Fifo<T>& queue) {
    put_all(queue);
  }
  template <typename T>
  void put(const std::vector<T>& values) {
    put_all(values);
  }
  template <typename K, typename V>
  void put(const std::map<K, V>& values) {
    put(std::uint64_t{values.size()});
    for (const auto& entry : values) (*this)(entry.first, entry.second);
  }
  template <typename T>
  requires(!PlainField<T>) void put(const T& value) { T::fields(value, *this); }

  template <typename Range>
  void put_all(const Range& range) {
    put(std::uint64_t{range.size()});
    for (const auto& item : range) put(item);
  }

  ByteWriter out_;
};

class StateReader {
 public:
  StateReader(ByteView bytes, std::string_view place) : in_(bytes, place), place_(place) {}

  template <typename... T>
  void operator()(T&... fields) {
    (get(fields), ...);
  }
  // Throws kInput unless all was read.
  void finish() const { check(in_.remaining() == 0, "bytes behind the end"); }
  void check(bool holds, const char* what) const {
    if (!holds) fail_input("{}: byte {}: no saved state: {}", place_, in_.position(), what);
  }

 private:
  template <PlainField T>
  void get(T& value) {
    value = in_.get<T>();
  }
  void get(bool& value) { value = in_.get<std::uint8_t>() != 0; }
  template <typename T>
  void get(std::optional<T>& value) {
    bool there = false;
    get(there);
    value.reset();
    if (there) get(value.emplace());
  }
  template <typename T>
  void get(Fifo<T>& queue) {
    queue.clear();
    for (std::uint64_t n = count(); n > 0; --n) {
      T item{};
      get(item);
      queue.push(std::move(item));
    }
  }
  template <typename T>
  void get(std::vector<T>& values) {
    values.clear();
    for (std::uint64_t n = count(); n > 0; --n) get(values.emplace_back());
  }
  template <typename K, typename V>
  void get(std::map<K, V>& values) {
    values.clear();
    for (std::uint64_t n = count(); n > 0; --n) {
      K key{};
      V value{};
      (*this)(key, value);
      values.insert_or_assign(key, std::move(value));
    }
  }
  template <typename T>
  requires(!PlainField<T>) void get(T& value) { T::fields(value, *this); }

  // An item takes a byte at least, so that a count says nothing that is not there.
  std::uint64_t count() {
    const auto n = in_.get<std::uint64_t>();
    check(n <= in_.remaining(), "a count above its bytes");
    return n;
  }

  ByteReader in_;
  std::string place_;
};

}  // namespace kv
