#include "bpe.hh"

#include "kv/base/hash.hh"

#include <bit>
#include <queue>

namespace kv {

void Vocabulary::reserve(std::size_t pieces, std::size_t characters) {
  spans_.reserve(pieces);
  characters_.reserve(characters);
  grow(std::bit_ceil(2 * pieces + 2));
}

std::string_view Vocabulary::piece(TokenId id) const {
  const Span span = spans_[static_cast<std::size_t>(id)];
  return std::string_view(characters_).substr(span.begin, span.size);
}

std::size_t Vocabulary::slot_of(std::string_view piece) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = xxh3_64(as_bytes(piece)) & mask;
  while (slots_[slot] >= 0 && this->piece(slots_[slot]) != piece) slot = (slot + 1) & mask;
  return slot;
}

void Vocabulary::grow(std::size_t slots) {
  slots_.assign(slots, -1);
  for (std::size_t id = 0; id < spans_.size(); ++id) {
    const std::size_t slot = slot_of(piece(static_cast<TokenId>(id)));
    if (slots_[slot] < 0) slots_[slot] = static_cast<TokenId>(id);
  }
}

void Vocabulary::add(std::string_view piece) {
  if (slots_.size() < 2 * (spans_.size() + 1)) grow(std::max<std::size_t>(16, 2 * slots_.size()));
  const std::size_t slot = slot_of(piece);
  if (slots_[slot] < 0) slots_[slot] = static_cast<TokenId>(spans_.size());
  spans_.push_back(
      {static_cast<std::uint32_t>(characters_.size()), static_cast<std::uint32_t>(piece.size())});
  characters_.append(piece);
}

TokenId Vocabulary::find(std::string_view piece) const {
  return slots_.empty() ? -1 : slots_[slot_of(piece)];
}

void MergeTable::reserve(std::size_t merges) { slots_.resize(std::bit_ceil(2 * merges + 2)); }

std::size_t MergeTable::slot_of(std::uint64_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = (pair * 0x9E3779B97F4A7C15ull >> 20) & mask;
  while (slots_[slot].pair != kFree && slots_[slot].pair != pair) slot = (slot + 1) & mask;
  return slot;
}

void MergeTable::add(TokenId left, TokenId right, Merge merge) {
  if (slots_.size() < 2 * (used_ + 1)) {
    std::vector<Slot> old(std::max<std::size_t>(16, 2 * slots_.size()));
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.pair != kFree) slots_[slot_of(slot.pair)] = slot;
    }
  }
  const std::uint64_t pair = static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
                             static_cast<std::uint32_t>(right);
  Slot& slot = slots_[slot_of(pair)];
  if (slot.pair != kFree) return;
  slot = {pair, merge};
  ++used_;
  const std::uint64_t entry[] = {pair, merge.rank, static_cast<std::uint64_t>(merge.id)};
  hash_ = xxh3_64(std::as_bytes(std::span(entry)), hash_);
}

const Merge* MergeTable::find(TokenId left, TokenId right) const {
  if (slots_.empty() || left < 0 || right < 0) return nullptr;
  const std::uint64_t pair = static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
                             static_cast<std::uint32_t>(right);
  const Slot& slot = slots_[slot_of(pair)];
  return slot.pair == kFree ? nullptr : &slot.merge;
}

void merge_symbols(std::vector<TokenId>& symbols, const MergeTable& table) {
  // Neighbours in a list over the array; a candidate is stale when its symbols have changed.
  struct Candidate {
    std::uint32_t rank;
    std::uint32_t left;
    TokenId left_id, right_id, merged;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  const std::size_t count = symbols.size();
  if (count < 2) return;
  std::vector<std::uint32_t> next(count), previous(count);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](std::uint32_t left) {
    const std::uint32_t right = next[left];
    if (right >= count) return;
    if (const Merge* merge = table.find(symbols[left], symbols[right])) {
      queue.push({merge->rank, left, symbols[left], symbols[right], merge->id});
    }
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    next[i] = i + 1;
    previous[i] = i - 1;  // of the first: out of range, like the last's next
  }
  for (std::uint32_t i = 0; i + 1 < count; ++i) offer(i);
  constexpr TokenId kGone = -2;
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    const std::uint32_t right = next[top.left];
    if (symbols[top.left] != top.left_id || right >= count || symbols[right] != top.right_id) {
      continue;
    }
    symbols[top.left] = top.merged;
    symbols[right] = kGone;
    next[top.left] = next[right];
    if (next[right] < count) previous[next[right]] = top.left;
    offer(top.left);
    if (previous[top.left] < count) offer(previous[top.left]);
  }
  std::erase(symbols, kGone);
}

}  // namespace kv
