#pragma once
// The vocabulary and the merging of byte-pair encoding, for both kinds: merges with ranks (GPT-2)
// and pieces with scores (SentencePiece). Private to the folder.

#include "kv/tokenizer/tokenizer.hh"

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace kv {

// Pieces by id and ids by piece. The characters lie in one string.
class Vocabulary {
 public:
  void reserve(std::size_t pieces, std::size_t characters);
  // Adds the next id. Of equal pieces the first is found.
  void add(std::string_view piece);
  std::size_t size() const { return spans_.size(); }
  std::string_view piece(TokenId id) const;
  // -1 when there is none.
  TokenId find(std::string_view piece) const;

 private:
  struct Span {
    std::uint32_t begin, size;
  };
  std::size_t slot_of(std::string_view piece) const;
  void grow(std::size_t slots);

  std::string characters_;
  std::vector<Span> spans_;
  std::vector<TokenId> slots_;  // open addressing, a power of two, -1 is free
};

// Merges two neighbouring symbols into one; the lowest rank goes first, the leftmost of equals.
struct Merge {
  std::uint32_t rank = 0;
  TokenId id = 0;
};

class MergeTable {
 public:
  void reserve(std::size_t merges);
  // The first of equal pairs counts.
  void add(TokenId left, TokenId right, Merge merge);
  const Merge* find(TokenId left, TokenId right) const;
  // A hash over all merges; of the table, so that it does not depend on how a file spells them.
  std::uint64_t hash() const { return hash_; }

 private:
  struct Slot {
    std::uint64_t pair = kFree;
    Merge merge;
  };
  static constexpr std::uint64_t kFree = ~0ull;
  std::size_t slot_of(std::uint64_t pair) const;

  std::vector<Slot> slots_;
  std::size_t used_ = 0;
  std::uint64_t hash_ = 0;
};

// Merges `symbols` in place until no pair is in the table. O(n log n).
void merge_symbols(std::vector<TokenId>& symbols, const MergeTable& table);

}  // namespace kv
