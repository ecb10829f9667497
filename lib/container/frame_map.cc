#include "kv/container/frame_map.hh"

#include "kv/base/hash.hh"
#include "kv/container/frame_reader.hh"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace kv {

using format::FrameHeader;

namespace {

constexpr std::uint64_t kMostResidentBytes = 32u << 20;

}  // namespace

FrameMap::FrameMap(const Input& input)
    : name_(input.name()), page_bytes_(static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE))) {
  if (!input.size_bytes()) {
    fail_usage("{}: not a regular file; write it to a file first", name());
  }
  mapping_ = input.map();
  const ByteView all = mapping_.bytes();
  touched_pages_.resize(all.size() / page_bytes_ + 1);
  if (all.empty()) fail_input("{}: empty, not a kv stream; give a .kv file", name());
  advise(all, MADV_RANDOM);  // pages that nobody asked for need not be read ahead
  touch(0, std::min(all.size(), format::kMagic.size()));
  if (!as_text(all).starts_with(as_text(std::as_bytes(std::span(format::kMagic))))) {
    fail_input("{}: byte 0: not a kv stream; give a .kv file", name());
  }
}

void FrameMap::refuse(std::uint64_t offset, const std::string& cause) const {
  fail_input("{}: byte {}: {}; {}", name(), offset, cause, kDamaged);
}

ByteView FrameMap::view(const Extent& extent, std::uint64_t offset, std::uint64_t size_bytes,
                        std::string_view what) {
  if (offset > extent.size_bytes || extent.size_bytes - offset < size_bytes) {
    refuse(extent.begin + std::min(offset, extent.size_bytes),
           fmt::format("{} leaves its member", what));
  }
  touch(extent.begin + offset, size_bytes);
  return mapping_.bytes().subspan(static_cast<std::size_t>(extent.begin + offset),
                                  static_cast<std::size_t>(size_bytes));
}

// `bytes` lie in the mapping.
void FrameMap::advise(ByteView bytes, int advice) const {
  const auto before = reinterpret_cast<std::uintptr_t>(bytes.data()) % page_bytes_;
  madvise(const_cast<std::byte*>(bytes.data()) - before, bytes.size() + before, advice);
}

void FrameMap::touch(std::uint64_t offset, std::uint64_t size_bytes) {
  if (size_bytes == 0) return;
  for (std::uint64_t page = offset / page_bytes_; page <= (offset + size_bytes - 1) / page_bytes_;
       ++page) {
    touched_page_count_ += touched_pages_[page] ? 0 : 1;
    touched_pages_[page] = true;
  }
}

FrameHeader FrameMap::frame_header(const Extent& extent, std::uint64_t offset,
                                   std::optional<std::uint64_t> chain) {
  const auto header = get<FrameHeader>(extent, offset, "a frame");
  const auto refuse_header = [&](std::string_view cause) {
    refuse(extent.begin + offset, fmt::format("{} frame: {}", type_text(header.type), cause));
  };
  const ByteView hashed = mapping_.bytes().subspan(static_cast<std::size_t>(extent.begin + offset),
                                                   offsetof(FrameHeader, header_hash));
  if (chain && xxh3_64(hashed, *chain) != header.header_hash) {
    refuse_header("header checksum mismatch");
  }
  if (header.size_bytes > format::kMaxFrameBytes) refuse_header("over the size limit");
  return header;
}

ByteView FrameMap::payload(const Extent& extent, std::uint64_t offset, const FrameHeader& header) {
  const std::string what = type_text(header.type) + " frame";
  const ByteView bytes = view(extent, offset + sizeof(header), header.size_bytes, what);
  if (bytes.size() > page_bytes_) advise(bytes, MADV_WILLNEED);
  // Memory stays small however many tiles are read. Views stay valid: pages come back.
  resident_bytes_ += bytes.size();
  if (resident_bytes_ > kMostResidentBytes) {
    advise(mapping_.bytes(), MADV_DONTNEED);
    resident_bytes_ = bytes.size();
  }
  if (xxh3_64(bytes) != header.payload_hash) {
    refuse(extent.begin + offset, what + ": payload checksum mismatch");
  }
  return bytes;
}

std::uint64_t FrameMap::frame_end(std::uint64_t offset, const FrameHeader& header) {
  const std::uint64_t end = offset + sizeof(header) + header.size_bytes;
  return end + (-end % format::kAlignment);
}

std::uint64_t FrameMap::touched_bytes() const {
  return std::min<std::uint64_t>(touched_page_count_ * page_bytes_, size_bytes());
}

}  // namespace kv
