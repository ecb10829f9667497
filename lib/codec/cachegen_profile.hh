#pragma once
// What the codec `cachegen` knows of a model before it sees a cache: step sizes by layer, and how
// often each channel has which symbol. The file format is in kv(5), "CacheGen profiles".

#include "kv/codec/codec.hh"
#include "kv/kernels/rans.hh"

#include <mutex>
#include <vector>

namespace kv {

// Values of one channel. With u = value - offset, the coder sees u >> shift and the lower `shift`
// bits are kept as they are. Of `symbols` = n frequencies, in 1/4096, the last is the escape's, and
// symbol s is u >> shift = s - (n / 2 - 1).
struct CacheGenModel {
  std::int16_t offset = 0;
  std::uint8_t shift = 0;    // 0 to 15
  std::uint8_t symbols = 4;  // 4, 8, 16 or 32
  std::array<std::uint16_t, 32> frequencies{};
};

class CacheGenProfile {
 public:
  static constexpr std::int64_t kGroupTokens = 10;  // an anchor and its nine
  static constexpr int kMostLevels = 16;
  static constexpr std::uint64_t kMostBytes = 1u << 29;
  static constexpr std::size_t kStripChannels = kRansMaxTables / 2;  // of one coded stream

  // A layer's K, V or L.
  struct Tensor {
    std::uint32_t layer = 0;
    format::Kind kind{};
    std::uint32_t channels = 0;
    std::vector<float> steps;  // by level: a delta's, in units of its row's RMS
    // anchors, then the deltas of each level: [1 + levels][channels]
    std::vector<CacheGenModel> models;

    std::span<const CacheGenModel> anchors() const { return std::span(models).first(channels); }
    std::span<const CacheGenModel> deltas(int level) const {
      return std::span(models).subspan(static_cast<std::size_t>(level) * channels, channels);
    }
  };

  // `tensors` ascend by (layer, kind). Throws kInput, with `place`, on what kv(5) does not allow.
  CacheGenProfile(int levels, bool rotated, std::vector<Tensor> tensors, const std::string& place);
  static CacheGenProfile parse(ByteView bytes, const std::string& place);
  Bytes bytes() const;

  std::uint64_t hash() const { return hash_; }  // of bytes(), as tiles name it
  int levels() const { return levels_; }        // 1 to levels(): finest first
  bool rotated() const { return rotated_; }     // made from rotated keys, and for them
  std::span<const Tensor> tensors() const { return tensors_; }
  const Tensor* find(std::uint32_t layer, format::Kind kind) const;

  // The coder's tables of channels [strip * kStripChannels, ...): the anchors' and then the
  // deltas'. Built when first asked for, from any thread, and kept: about 1 kB a channel and level.
  const RansTables& tables(const Tensor& tensor, int level, std::size_t strip) const;

 private:
  struct Slot {
    std::once_flag once;
    std::unique_ptr<RansTables> tables;
  };

  int levels_;
  bool rotated_;
  std::vector<Tensor> tensors_;
  std::vector<std::size_t> first_slots_;  // by tensor
  std::unique_ptr<Slot[]> slots_;
  std::uint64_t hash_ = 0;
};

// The levels of make_cachegen_profile: a delta's step is this times 0.5, 1 or 1.5 in the first,
// second and last third of the layers, as in the paper.
inline constexpr std::array<float, 9> kCacheGenFactors = {0.0625f, 0.125f, 0.25f, 0.5f, 0.75f,
                                                          1.0f,    1.5f,   2.0f,  3.0f};

// What making one tells: bits a value over all values of the calibration set.
struct CacheGenRates {
  // Anchors are a tenth of the values; by level, the deltas'.
  double anchor_entropy = 0, anchor_bits = 0;  // of the counted symbols; under the models
  std::vector<double> delta_entropy, delta_bits;
  std::uint64_t values = 0;
};

// From the members of kv files with an index (any codec), all of one model with all its layers. The
// tiles' first `chunk` tokens, and so on, are grouped as the encoder will. Throws kInput, kUsage.
CacheGenProfile make_cachegen_profile(const std::vector<std::string>& paths, bool rotated,
                                      CacheGenRates* rates = nullptr);

// Known to find_cachegen_profile() from now on.
void add_cachegen_profile(std::shared_ptr<const CacheGenProfile> profile);
// Of a file, and known too. Throws kInput.
std::shared_ptr<const CacheGenProfile> read_cachegen_profile(const std::string& path);
// That of the hash, from where profiles lie (see profiles.hh), files *.kvprofile. Kept for later
// calls. Throws kInput, with `place`, when it is not there.
std::shared_ptr<const CacheGenProfile> find_cachegen_profile(std::uint64_t hash,
                                                             const std::string& place);

}  // namespace kv
