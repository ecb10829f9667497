#pragma once
// A sliding-window random linear code over GF(2^8), as RFC 8681 has it (polynomial 0x11D): a repair
// symbol is a combination of source symbols, and as many combinations as symbols are missing bring
// them back. Units, the runs of bytes that were sent as one packet, become symbols of equal size by
// a length byte in front and zeros behind. Unlike RFC 8681 the coefficients come from SplitMix64 of
// the repair's key and the unit's number, and none is zero.

#include "kv/stream/packet.hh"

#include <map>

namespace kv {

constexpr std::size_t kMaxUnitBytes = 255;

// The repair symbol of units `first`, `first` + 1 ...; 1 to 64 units of 1 to 255 bytes each.
Repair make_repair(std::uint64_t first, const std::vector<ByteView>& units, std::uint32_t key);

// What a receiver knows of the units: those that arrived, and what combinations say of the others.
class FecDecoder {
 public:
  // A unit that arrived. False, and nothing happens, outside of the window: kWindow numbers from
  // the lowest that was not forgotten.
  bool add_unit(std::uint64_t unit, ByteView bytes);
  // A combination; then whatever follows from all of them is known. False for one that cannot be:
  // it covers units that were forgotten or lie beyond, or contradicts what is known.
  bool add_repair(const Repair& repair);
  // A unit's bytes if they are known.
  const Bytes* find(std::uint64_t unit) const;
  // Everything below `unit` was delivered. The last 64 stay, for later combinations name them.
  void delivered_before(std::uint64_t unit);

  bool operator==(const FecDecoder&) const = default;
  template <typename Self, typename F>
  static void fields(Self& self, F& f) {
    f(self.low_, self.known_, self.rows_);
  }

 private:
  struct Row {  // the sum of coefficient x unit is `sum`
    std::map<std::uint64_t, std::uint8_t> coefficients;
    Bytes sum;
    bool operator==(const Row&) const = default;
    template <typename Self, typename F>
    static void fields(Self& self, F& f) {
      f(self.coefficients, self.sum);
    }
  };

  static constexpr std::uint64_t kWindow = 4096;
  static constexpr std::size_t kMaxRows = 64;

  void learn(std::uint64_t unit, ByteView symbol);
  bool solve();

  std::uint64_t low_ = 0;
  std::map<std::uint64_t, Bytes> known_;
  std::vector<Row> rows_;
};

}  // namespace kv
