#pragma once
// Members from one form to another: cut out, coded, decoded. A few tiles a thread in memory.

#include "kv/base/range.hh"
#include "kv/codec/codec.hh"
#include "kv/codec/profile.hh"
#include "kv/container/tile_source.hh"
#include "kv/container/writer.hh"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace kv {

// How the codec `clp` codes.
struct ClpOptions {
  std::shared_ptr<const Profile> profile;  // null: the one of the member's model and of `level`
  int level = 2;
  int base_step = 0;                    // eighths of an octave beside the profile's own step
  std::optional<double> max_kld;        // instead of a step: what the profiles' maps say of it
  std::optional<double> max_bits;       // a value, likewise
  std::int64_t tokens_per_tile = 1024;  // at most 2^15
  bool use_importance = true;           // finer steps for tokens that matter, where IMPT says which
};

// How the codec `ecsq` codes, which needs no profile.
struct EcsqOptions {
  int level = 2;      // 1 to 4
  int base_step = 0;  // eighths of an octave beside the level's step
  // Tiles of quality 1 and on, 0 to 4: each makes the step a third. With any the base's step is
  // nine times the level's.
  int refinements = 0;
  std::int64_t tokens_per_tile = 1024;  // at most 2^15
  bool use_importance = true;           // as for clp
};

struct TranscodeOptions {
  std::vector<Range> members;        // empty: all
  Range layers, tokens;              // of each member
  const Codec* codec = nullptr;      // null: as the tiles are
  std::optional<ClpOptions> clp;     // instead of a codec that codes tile by tile
  std::optional<EcsqOptions> ecsq;   // likewise; with `clp`: of members that it has no profile for
  std::optional<int> quality;        // no tiles of a higher one; only where tiles stay as they are
  std::int64_t tokens_per_tile = 0;  // cut larger tiles; 0: as they are
  std::optional<HistoryEntry> history;  // unset: META's history is dropped
  int threads = 1;                      // the bytes are the same for any number
  // IMPT; unset: unless `codec` is lossy, when nobody needs it any more.
  std::optional<bool> keep_importance;
  std::function<void(const std::string&)> note;  // what the user may want to know; unset: nobody

  bool keeps_importance() const {
    return keep_importance.value_or(!clp && !ecsq && (!codec || codec->lossless()));
  }

  // Whether anything may be left out; what is not selected need not be read.
  bool selects() const {
    return !members.empty() || !layers.whole() || !tokens.whole() || quality.has_value();
  }
};

// Writes what is chosen of the source's members. A tile that is neither cut nor changed is passed
// on as it stands; one that its codec does not shrink is written raw. Throws kUsage when nothing is
// chosen, or a member that is not there.
void transcode(TileSource& source, Writer& writer, const TranscodeOptions& options);

}  // namespace kv
