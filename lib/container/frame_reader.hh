#pragma once
// Frames of a stream one after another, verified, with one payload in memory.

#include "kv/base/hash.hh"
#include "kv/container/notes.hh"
#include "kv/container/reader.hh"

#include <cstdlib>
#include <memory>
#include <string>

namespace kv {

// Grows only as bytes arrive, so that a declared size takes no memory; keeps its memory for the
// next frame. realloc moves pages of large blocks instead of copying them.
class FrameBuffer {
 public:
  std::span<std::byte> first(std::size_t n);

 private:
  struct Free {
    void operator()(std::byte* block) const { std::free(block); }
  };
  std::unique_ptr<std::byte, Free> block_;
  std::size_t capacity_ = 0;
};

inline constexpr std::string_view kDamaged = "the file is damaged, get or make it again";
inline constexpr std::string_view kUpdate = "update kvtools";

class FrameReader {
 public:
  FrameReader(Input input, Reader::Options options);

  // Reads a member header; false at the end of the stream.
  bool begin_member();
  // The next frame's header. The payload of the frame before must have been taken.
  const format::FrameHeader& next();
  // The payload of the current frame, verified; valid until the next call. `limit_bytes` is what a
  // frame of this type may have.
  ByteView payload();
  // Verifies it without keeping it.
  void skip_payload();

  // Refuses the current frame: "FILE: byte N: TENS frame 3: CAUSE; REMEDY".
  [[noreturn]] void refuse(const std::string& cause) const { refuse(cause, kDamaged); }
  [[noreturn]] void refuse(const std::string& cause, std::string_view remedy) const;
  std::string place() const;

  const format::FrameHeader& header() const { return header_; }
  const std::string& name() const { return input_.name(); }
  std::uint64_t offset() const { return offset_; }
  std::uint64_t frame_offset() const { return frame_offset_; }  // of the current header
  std::uint64_t member_offset() const { return member_offset_; }
  std::uint64_t member_index() const { return members_ - 1; }
  std::uint64_t frame_count() const { return frames_; }  // of the member, with the current one

  // What a truncation message says of the member beyond its frames.
  std::string whole;
  // Of the member, once it was read: names the fields of frames that depend on it.
  const Meta* meta = nullptr;

 private:
  std::size_t read(std::span<std::byte> into);
  ByteView take_payload(bool keep);
  void take_padding();
  [[noreturn]] void refuse_truncated() const;

  Input input_;
  Reader::Options options_;
  Notes notes_;
  FrameBuffer buffer_;
  StreamHash hash_;
  Bytes ahead_;  // small reads come from here
  std::size_t ahead_begin_ = 0, ahead_end_ = 0;
  format::FrameHeader header_;
  std::uint64_t offset_ = 0, frame_offset_ = 0, member_offset_ = 0;
  std::uint64_t members_ = 0, frames_ = 0;
};

}  // namespace kv
