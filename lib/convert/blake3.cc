#include "blake3.hh"

#include <bit>

namespace kv {
namespace {

using Words = std::array<std::uint32_t, 8>;
using Block = std::array<std::uint32_t, 16>;

constexpr Words kStart = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                          0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
constexpr std::array<std::size_t, 16> kPermutation = {2, 6,  3,  10, 7, 0,  4,  13,
                                                      1, 11, 12, 5,  9, 14, 15, 8};
enum Flags : std::uint32_t { kChunkStart = 1, kChunkEnd = 2, kParent = 4, kRoot = 8 };
constexpr std::size_t kBlockBytes = 64, kChunkBytes = 1024;
constexpr int kRounds = 7;

void mix(Block& v, std::size_t a, std::size_t b, std::size_t c, std::size_t d, std::uint32_t x,
         std::uint32_t y) {
  v[a] += v[b] + x;
  v[d] = std::rotr(v[d] ^ v[a], 16);
  v[c] += v[d];
  v[b] = std::rotr(v[b] ^ v[c], 12);
  v[a] += v[b] + y;
  v[d] = std::rotr(v[d] ^ v[a], 8);
  v[c] += v[d];
  v[b] = std::rotr(v[b] ^ v[c], 7);
}

Words compress(const Words& chain, Block message, std::uint64_t counter, std::size_t size,
               std::uint32_t flags) {
  Block v{};
  std::copy(chain.begin(), chain.end(), v.begin());
  std::copy(kStart.begin(), kStart.begin() + 4, v.begin() + 8);
  v[12] = static_cast<std::uint32_t>(counter);
  v[13] = static_cast<std::uint32_t>(counter >> 32);
  v[14] = static_cast<std::uint32_t>(size);
  v[15] = flags;
  for (int round = 0; round < kRounds; ++round) {
    const Block& m = message;
    for (std::size_t i = 0; i < 4; ++i) mix(v, i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1]);
    for (std::size_t i = 0; i < 4; ++i) {
      mix(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i]);
    }
    Block next;
    for (std::size_t i = 0; i < next.size(); ++i) next[i] = message[kPermutation[i]];
    message = next;
  }
  Words out;
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = v[i] ^ v[i + 8];
  return out;
}

Words chunk(ByteView bytes, std::uint64_t number, std::uint32_t root) {
  Words chain = kStart;
  std::uint32_t flags = kChunkStart;
  for (bool last = false; !last; flags = 0) {
    const ByteView part = bytes.first(std::min(bytes.size(), kBlockBytes));
    bytes = bytes.subspan(part.size());
    last = bytes.empty();
    Block block{};
    if (!part.empty()) std::memcpy(block.data(), part.data(), part.size());
    if (last) flags |= kChunkEnd | root;
    chain = compress(chain, block, number, part.size(), flags);
  }
  return chain;
}

// A tree as deep as the logarithm of its chunks; `first` is the number of the first one.
Words tree(ByteView bytes, std::uint64_t first, std::uint32_t root) {
  if (bytes.size() <= kChunkBytes) return chunk(bytes, first, root);
  // On the left all chunks that a power of two can take and leave something.
  const std::size_t left = std::bit_floor((bytes.size() - 1) / kChunkBytes);
  const Words a = tree(bytes.first(left * kChunkBytes), first, 0);
  const Words b = tree(bytes.subspan(left * kChunkBytes), first + left, 0);
  Block both;
  std::copy(a.begin(), a.end(), both.begin());
  std::copy(b.begin(), b.end(), both.begin() + 8);
  return compress(kStart, both, 0, kBlockBytes, kParent | root);
}

}  // namespace

std::array<std::byte, 32> blake3(ByteView bytes) {
  return std::bit_cast<std::array<std::byte, 32>>(tree(bytes, 0, kRoot));
}

}  // namespace kv
