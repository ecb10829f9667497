#pragma once
// The numbers of kv(5), major version 1. man/kv.5 is the specification; this header is its names.
//
//   stream := member+
//   member := member_header frame(META) frame(TOKN)? frame(IMPT)? frame(TENS)* frame(INDX)?
//             frame(END)
//   frame  := frame_header payload padding      padding: zeros to a multiple of 16
//
// Every frame starts at a multiple of 16 from the stream's start, so payloads and tensor data are
// aligned for any element type, also after `cat a.kv b.kv`.

#include "kv/base/bytes.hh"
#include "kv/container/tensor.hh"

#include <array>
#include <cstdint>

namespace kv::format {

// High bit against 7-bit channels, CR-LF and LF against newline translation, ^Z against `type`.
inline constexpr std::array<std::uint8_t, 8> kMagic = {0x8B, 'K', 'V', 'C', 0x0D, 0x0A, 0x1A, 0x0A};
inline constexpr std::uint16_t kMajor = 1;  // unknown major: refused
// A member gives the lowest minor that has what is in it. Unknown: read; only optional frames are
// new.
inline constexpr std::uint16_t kMinorImportance = 1;  // IMPT

inline constexpr std::size_t kAlignment = 16;
inline constexpr std::uint64_t kMaxMetaBytes = 1u << 20;
inline constexpr std::uint64_t kMaxTokens = 1u << 26;      // of a member
inline constexpr std::uint64_t kMaxFrameBytes = 1u << 30;  // any payload
inline constexpr std::uint64_t kMaxFrames = 1u << 22;      // of a member
inline constexpr std::uint32_t kMaxLayers = 1u << 12;
inline constexpr std::int64_t kMaxRowValues = 1 << 24;  // heads * dim: a raw row fits in a frame
inline constexpr std::int64_t kMaxQualityLayers = 1 << 8;
inline constexpr std::int64_t kMaxInteger =
    (std::int64_t{1} << 53) - 1;      // in META; exact in a double
inline constexpr int kMaxDepth = 32;  // of META's JSON

// Types are four ASCII characters, stored in reading order.
enum class FrameType : std::uint32_t {
  kMeta = 0x4154454D,        // "META"
  kTokens = 0x4E4B4F54,      // "TOKN"
  kImportance = 0x54504D49,  // "IMPT", always optional; see importance.hh
  kTensor = 0x534E4554,      // "TENS"
  kIndex = 0x58444E49,       // "INDX"
  kEnd = 0x20444E45,         // "END "
};

// A reader that does not know a frame's type skips it when this is set, else refuses the member.
inline constexpr std::uint32_t kOptional = 1u;  // flags; all other bits are zero

struct MemberHeader {
  std::array<std::uint8_t, 8> magic = kMagic;
  std::uint16_t major = kMajor;
  std::uint16_t minor = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(MemberHeader) == 16);

struct FrameHeader {
  FrameType type{};
  std::uint32_t flags = 0;
  std::uint64_t size_bytes = 0;    // of the payload, without padding
  std::uint64_t payload_hash = 0;  // XXH3-64 of the payload
  // XXH3-64 of the 24 bytes above, seeded with the previous frame's header_hash (of the first
  // frame: with the XXH3-64 of the member header). So frames can be neither dropped, doubled nor
  // moved, and END's is the hash of the member.
  std::uint64_t header_hash = 0;
};
static_assert(sizeof(FrameHeader) == 32);

// Tensor kinds are characters: K and V of a layer; E, the hidden state at a layer's input; L, the
// one latent tensor of multi-head latent attention.
enum class Kind : std::uint8_t { kE = 'E', kK = 'K', kL = 'L', kV = 'V' };

// First 32 bytes of a TENS payload; the tile's data follows. Tiles are ordered by (layer, kind,
// token_begin, quality), kinds as their characters. The tiles of quality 0 of a (layer, kind) cover
// all tokens of the member without gap or overlap; each is followed by its refinements, of the
// same tokens and qualities 1, 2 and so on, as many as the writer kept. K, V and L have META's
// dtype; E may have its own.
struct TileHeader {
  Kind kind{};
  DType dtype{};
  std::uint16_t codec = 0;  // kRaw, or a codec of kv(5)
  std::uint32_t layer = 0;
  std::uint64_t token_begin = 0;
  std::uint32_t token_count = 0;
  std::uint16_t quality = 0;  // 0: base; higher refine it
  std::uint16_t reserved0 = 0;
  std::uint64_t reserved1 = 0;

  bool operator==(const TileHeader&) const = default;
};
static_assert(sizeof(TileHeader) == 32);

inline constexpr std::uint16_t kRaw = 0;     // data: token_count * heads * dim elements
inline constexpr std::uint16_t kPlanes = 1;  // lossless byte planes with zstd, see kv(5)
inline constexpr std::uint16_t kClp = 2;     // cross-layer prediction with a profile, see kv(5)
inline constexpr std::uint16_t kEcsq = 3;    // entropy-coded scalars, no profile, see kv(5)
inline constexpr std::uint16_t kThirds = 4;  // refines kEcsq: a third of the step
// What others use, to measure against; all lossy.
inline constexpr std::uint16_t kQ8_0 = 8;           // llama.cpp's blocks of 8 bits
inline constexpr std::uint16_t kQ4_0 = 9;           // and of 4
inline constexpr std::uint16_t kKivi = 10;          // KIVI: keys by channel, values by token
inline constexpr std::uint16_t kCacheGen = 16;      // CacheGen as its paper has it
inline constexpr std::uint16_t kCacheGenCode = 17;  // and as its public code

// INDX payload: one entry a TENS frame, in order.
struct IndexEntry {
  std::uint64_t offset = 0;        // of the frame header, from the member's start
  std::uint64_t size_bytes = 0;    // of the payload
  std::uint64_t payload_hash = 0;  // as in the frame header
  std::uint64_t reserved = 0;
  TileHeader tile;
};
static_assert(sizeof(IndexEntry) == 64);

struct EndPayload {
  std::uint64_t frame_count = 0;        // of the member, with END
  std::uint64_t member_size_bytes = 0;  // header to END, so that a reader can step backwards
  std::uint64_t index_offset = 0;       // of INDX's frame header, from the member's start; 0: none
  std::uint64_t reserved = 0;
};
static_assert(sizeof(EndPayload) == 32);

}  // namespace kv::format
