#pragma once
// Streams with right hashes and wrong contents: frames are taken apart, changed, and chained anew.

#include "kv/base/hash.hh"
#include "kv/container/format.hh"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kv::forge {

using format::FrameType;

struct Frame {
  FrameType type{};
  std::string payload;
  std::uint32_t flags = 0;
  std::optional<std::uint64_t> declared_bytes;  // instead of the payload's size
  char padding = '\0';
};

template <typename T>
std::string text_of(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
T value_of(std::string_view text) {
  T value;
  std::memcpy(&value, text.data(), sizeof(value));
  return value;
}

inline constexpr FrameType type_of(std::array<char, 4> text) {
  return std::bit_cast<FrameType>(text);
}

// The frames of a sound stream's first member.
inline std::vector<Frame> split(std::string_view stream) {
  std::vector<Frame> frames;
  stream.remove_prefix(sizeof(format::MemberHeader));
  while (frames.empty() || frames.back().type != FrameType::kEnd) {
    const auto header = value_of<format::FrameHeader>(stream);
    stream.remove_prefix(sizeof(header));
    frames.push_back({header.type, std::string(stream.substr(0, header.size_bytes)), header.flags,
                      std::nullopt, '\0'});
    const std::uint64_t padded = (header.size_bytes + 15) / 16 * 16;
    stream.remove_prefix(padded);
  }
  return frames;
}

inline std::string join(const std::vector<Frame>& frames, format::MemberHeader member = {}) {
  std::string stream = text_of(member);
  std::uint64_t chain = xxh3_64(as_bytes(stream));
  for (const Frame& frame : frames) {
    format::FrameHeader header;
    header.type = frame.type;
    header.flags = frame.flags;
    header.size_bytes = frame.declared_bytes.value_or(frame.payload.size());
    header.payload_hash = xxh3_64(as_bytes(frame.payload));
    header.header_hash = xxh3_64(as_bytes(text_of(header)).first(24), chain);
    chain = header.header_hash;
    stream += text_of(header) + frame.payload;
    stream.append((16 - frame.payload.size() % 16) % 16, frame.padding);
  }
  return stream;
}

// Puts right hashes into whatever frames the bytes hold, so that a fuzzer gets past them.
inline std::string mend(std::string stream) {
  std::size_t at = 0;
  const auto left = [&] { return stream.size() - at; };
  while (left() >= sizeof(format::MemberHeader) + sizeof(format::FrameHeader)) {
    std::uint64_t chain = xxh3_64(as_bytes(stream).subspan(at, sizeof(format::MemberHeader)));
    at += sizeof(format::MemberHeader);
    FrameType type{};
    while (left() >= sizeof(format::FrameHeader) && type != FrameType::kEnd) {
      auto header = value_of<format::FrameHeader>(std::string_view(stream).substr(at));
      const std::size_t size = std::min<std::uint64_t>(header.size_bytes, left() - sizeof(header));
      header.payload_hash = xxh3_64(as_bytes(stream).subspan(at + sizeof(header), size));
      header.header_hash = chain = xxh3_64(as_bytes(text_of(header)).first(24), chain);
      stream.replace(at, sizeof(header), text_of(header));
      type = header.type;
      at += sizeof(header) + size;
      at += std::min(left(), (16 - at % 16) % 16);
    }
  }
  return stream;
}

// Changes a struct at a payload's start.
template <typename T, typename F>
void change(Frame& frame, F&& edit) {
  auto value = value_of<T>(frame.payload);
  edit(value);
  frame.payload.replace(0, sizeof(T), text_of(value));
}

}  // namespace kv::forge
