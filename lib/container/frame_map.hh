#pragma once
// Frames at any place of a mapped file: within bounds, with their hashes, and counting the pages
// that were touched.

#include "kv/base/file.hh"
#include "kv/container/format.hh"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

// Bytes of the file that belong together: a member.
struct Extent {
  std::uint64_t begin = 0, size_bytes = 0;
};

// Offsets are from the extent's begin. What does not fit is refused with kInput.
class FrameMap {
 public:
  // Throws kUsage when the input is no regular file, kInput when it does not begin as a kv stream.
  explicit FrameMap(const Input& input);

  const std::string& name() const { return name_; }
  std::uint64_t size_bytes() const { return mapping_.bytes().size(); }
  std::uint64_t touched_bytes() const;

  template <typename T>
  T get(const Extent& extent, std::uint64_t offset, std::string_view what) {
    T value;
    std::memcpy(&value, view(extent, offset, sizeof(T), what).data(), sizeof(T));
    return value;
  }
  // The header at `offset`, a multiple of the alignment; `chain` is the header hash before it.
  format::FrameHeader frame_header(const Extent& extent, std::uint64_t offset,
                                   std::optional<std::uint64_t> chain);
  // Verified; valid as long as this object.
  ByteView payload(const Extent& extent, std::uint64_t offset, const format::FrameHeader& header);
  static std::uint64_t frame_end(std::uint64_t offset, const format::FrameHeader& header);

  // `offset` is from the file's start.
  [[noreturn]] void refuse(std::uint64_t offset, const std::string& cause) const;

 private:
  ByteView view(const Extent& extent, std::uint64_t offset, std::uint64_t size_bytes,
                std::string_view what);
  void advise(ByteView bytes, int advice) const;
  void touch(std::uint64_t offset, std::uint64_t size_bytes);

  std::string name_;
  Mapping mapping_;
  std::vector<bool> touched_pages_;
  std::uint64_t page_bytes_;
  std::uint64_t touched_page_count_ = 0;
  std::uint64_t resident_bytes_ = 0;  // of payloads, at most
};

}  // namespace kv
