#pragma once
// Profiles: what the codec `clp` knows of a model before it sees a cache. Written by kvcalibrate,
// read by kvencode and kvdecode, specified in kvprofile(5). A stream names the hash of the profile
// that it needs.

#include "kv/base/bytes.hh"
#include "kv/codec/classes.hh"
#include "kv/container/meta.hh"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kv {

// A decoded tensor that a prediction uses: this layer's (layers_back 0) or an earlier one's.
struct ContextSource {
  std::uint8_t layers_back = 0;
  format::Kind kind{};

  bool operator==(const ContextSource&) const = default;
};

// One tensor, with `channels` values a token. All integers, so that every decoder reconstructs the
// same: kv(5) "clp" says how.
struct TensorProfile {
  std::uint32_t layer = 0;
  format::Kind kind{};
  std::int64_t channels = 0;           // a multiple of 4
  std::vector<ContextSource> context;  // in the order of the predictor's inputs
  std::int64_t inputs = 0;             // channels of all of them
  int even_step = 0;                   // eighths of an octave that an encoder adds to the step of a
                                       // cache that does not know its tokens' importance
  std::vector<std::int8_t> predictor;  // [channels][inputs]
  std::vector<std::int8_t> basis;      // [channels][channels]: of a channel, by coefficient
  std::vector<float> mean, unit;       // [channels]
  std::vector<std::int8_t> gain;       // [channels]: left shift of the basis's sum
  std::vector<std::uint8_t> shift;     // [channels]: from `unit` to the context's unit
  std::vector<Shape> shape;            // [coefficients]: classes at the profile's own step
  std::vector<std::int8_t> sigma;      // [coefficients], non-increasing

  // What one of the coefficient k adds to channel c, at the profile's own step.
  double basis_value(std::int64_t c, std::int64_t k) const;
};

// A point of the measured map from step to quality.
struct ProfilePoint {
  int step = 0;     // eighths of an octave beside the profile's own
  double bits = 0;  // a value, all bytes of the file
  double kld = 0;   // nats, mean over teacher-forced continuations
};

struct Profile {
  ModelIdentity model;
  int level = 0;
  std::string made_from;               // for people: texts, tokens, options
  std::vector<ProfilePoint> map;       // ascending step
  std::vector<TensorProfile> tensors;  // in the order of decoding: by layer, V before K
  std::uint64_t hash = 0;              // of the file's bytes

  const TensorProfile* find(std::uint32_t layer, format::Kind kind) const;
  // Whether this layer's tensors need no layer before them.
  bool restarts_at(std::uint32_t layer) const;

  // The file's bytes; sets `hash`.
  Bytes to_bytes();
  // Throws kInput on anything that kvprofile(5) does not allow.
  static std::shared_ptr<const Profile> from_bytes(ByteView bytes, const std::string& place);
  static std::shared_ptr<const Profile> open(const std::string& path);
};

// What is known of a profile without reading it whole.
struct ProfileHead {
  ModelIdentity model;
  int level = 0;
  std::uint64_t hash = 0;

  // Throws as Profile::open does, but for what only the whole shows.
  static ProfileHead read(const std::string& path);
};

// The (layer, kind) pairs in the order of decoding: by layer, V before K, so that keys, of which
// more can be predicted, have this layer's values to be predicted from.
std::vector<std::pair<std::uint32_t, format::Kind>> order_of(const Meta& meta);

}  // namespace kv
