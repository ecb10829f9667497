#include "kv/container/frame_reader.hh"

#include <algorithm>
#include <new>

namespace kv {
namespace {

using format::FrameHeader;

constexpr std::size_t kAheadBytes = 64u << 10;
// Hashed piece by piece while a piece is still in the second-level cache.
constexpr std::size_t kPieceBytes = 256u << 10;
constexpr std::size_t kMostGrowthBytes = 16u << 20;

}  // namespace

std::span<std::byte> FrameBuffer::first(std::size_t n) {
  if (n > capacity_) {
    const std::size_t wanted = std::max(n, std::min(2 * capacity_, capacity_ + kMostGrowthBytes));
    auto* grown = static_cast<std::byte*>(std::realloc(block_.get(), wanted));
    if (grown == nullptr) throw std::bad_alloc();
    static_cast<void>(block_.release());
    block_.reset(grown);
    capacity_ = wanted;
  }
  return {block_.get(), n};
}

FrameReader::FrameReader(Input input, Reader::Options options)
    : input_(std::move(input)),
      options_(std::move(options)),
      notes_(options_.on_field),
      ahead_(kAheadBytes) {}

std::size_t FrameReader::read(std::span<std::byte> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const std::span<std::byte> rest = into.subspan(done);
    if (ahead_begin_ < ahead_end_) {
      const std::size_t n = std::min(rest.size(), ahead_end_ - ahead_begin_);
      std::memcpy(rest.data(), ahead_.data() + ahead_begin_, n);
      ahead_begin_ += n;
      done += n;
    } else if (rest.size() >= ahead_.size()) {
      const std::size_t n = input_.read_some(rest);
      if (n == 0) break;
      done += n;
    } else {
      ahead_begin_ = 0;
      ahead_end_ = input_.read_some(ahead_);
      if (ahead_end_ == 0) break;
    }
  }
  offset_ += done;
  return done;
}

std::string FrameReader::place() const {
  std::string text = fmt::format("{}: byte {}: {} frame {}", name(), frame_offset_,
                                 type_text(header_.type), frames_ - 1);
  if (members_ > 1) text += fmt::format(" of member {}", members_ - 1);
  return text;
}

void FrameReader::refuse(const std::string& cause, std::string_view remedy) const {
  fail_input("{}: {}; {}", place(), cause, remedy);
}

void FrameReader::refuse_truncated() const {
  fail_input(
      "{}: byte {}: truncated in member {}; {} frames are whole{}{}; get the whole or make it "
      "again",
      name(), offset_, members_ - 1, frames_ == 0 ? 0 : frames_ - 1, whole.empty() ? "" : ", ",
      whole);
}

bool FrameReader::begin_member() {
  format::MemberHeader member;
  std::array<std::byte, sizeof(member)> bytes{};
  member_offset_ = offset_;
  const std::size_t got = read(bytes);
  if (got == 0) {
    if (members_ == 0 && !options_.allow_empty)
      fail_input("{}: empty, not a kv stream; give a .kv file", name());
    return false;
  }
  std::memcpy(&member, bytes.data(), sizeof(member));
  notes_.member_header(member_offset_, member);
  const std::size_t known = std::min(got, member.magic.size());
  if (!std::equal(member.magic.begin(), member.magic.begin() + known, format::kMagic.begin())) {
    if (members_ == 0) fail_input("{}: byte 0: not a kv stream; give a .kv file", name());
    fail_input("{}: byte {}: no member follows END of member {}; {}", name(), member_offset_,
               members_ - 1, kDamaged);
  }
  ++members_;
  frames_ = 0;
  meta = nullptr;
  whole.clear();
  if (got < sizeof(member)) refuse_truncated();
  if (member.major != format::kMajor) {
    fail_input("{}: byte {}: format version {}.{}, where this program reads {}.x; {}", name(),
               member_offset_, member.major, member.minor, format::kMajor, kUpdate);
  }
  if (member.reserved != 0) {
    fail_input("{}: byte {}: reserved bits of the member header are set; {}", name(),
               member_offset_, kDamaged);
  }
  header_ = {};
  header_.header_hash = xxh3_64(bytes);
  return true;
}

const FrameHeader& FrameReader::next() {
  std::array<std::byte, sizeof(FrameHeader)> bytes{};
  const std::uint64_t before = header_.header_hash;
  frame_offset_ = offset_;
  ++frames_;
  if (read(bytes) < bytes.size()) refuse_truncated();
  std::memcpy(&header_, bytes.data(), bytes.size());
  notes_.frame_header(frame_offset_, header_);
  constexpr std::size_t kHashed = offsetof(FrameHeader, header_hash);
  if (xxh3_64(ByteView(bytes).first(kHashed), before) != header_.header_hash) {
    refuse("header checksum mismatch");
  }
  if (frames_ > format::kMaxFrames) {
    refuse(fmt::format("more than {} frames in a member", format::kMaxFrames));
  }
  if ((header_.flags & ~format::kOptional) != 0) refuse("reserved flags are set");
  if (header_.size_bytes > format::kMaxFrameBytes) {
    refuse(
        fmt::format("{} bytes, over the limit of {}", header_.size_bytes, format::kMaxFrameBytes));
  }
  return header_;
}

ByteView FrameReader::payload() { return take_payload(true); }
void FrameReader::skip_payload() { take_payload(false); }

ByteView FrameReader::take_payload(bool keep) {
  const std::uint64_t begin = offset_;
  const auto size = static_cast<std::size_t>(header_.size_bytes);
  std::span<std::byte> piece;
  hash_.reset();
  for (std::size_t done = 0; done < size; done += piece.size()) {
    const std::size_t n = std::min(kPieceBytes, size - done);
    piece = keep ? buffer_.first(done + n).subspan(done) : buffer_.first(n);
    if (read(piece) < n) refuse_truncated();
    if (options_.verify) hash_.add(piece);
  }
  const ByteView kept = keep ? ByteView(buffer_.first(size)) : ByteView();
  if (keep) {
    notes_.payload(begin, header_.type, kept, meta);
  } else {
    notes_.data(begin, size, "payload", type_text(header_.type) + " (skipped)");
  }
  if (options_.verify && hash_.value() != header_.payload_hash) refuse("payload checksum mismatch");
  take_padding();
  return kept;
}

void FrameReader::take_padding() {
  std::array<std::byte, format::kAlignment> bytes{};
  const auto padding = std::span(bytes).first(-offset_ % format::kAlignment);
  const std::uint64_t begin = offset_;
  if (read(padding) < padding.size()) refuse_truncated();
  notes_.data(begin, padding.size(), "padding", "zeros");
  if (std::any_of(padding.begin(), padding.end(), [](std::byte b) { return b != std::byte{0}; })) {
    refuse("padding is not zero");
  }
}

}  // namespace kv
