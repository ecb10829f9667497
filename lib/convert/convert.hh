#pragma once
// The work of kvconvert.

#include "kv/container/tile_source.hh"
#include "kv/container/writer.hh"
#include "kv/convert/layout.hh"

namespace kv {

// What of a cache came into a layout.
struct ExportReport {
  std::int64_t token_count = 0, of_tokens = 0;  // fewer where a layout has whole blocks only
  bool hidden = false, importance = false;      // were there, and left out
  std::string made_for;  // what a layout chose by this machine, as users call it
};

// The one member of `source`, decoded where it is coded. Throws kInput: several members, latents
// (MLA), no ids or a later position where the layout does not allow that; kUsage: an option or
// dtype that the layout has not.
ExportReport export_cache(TileSource& source, const Layout& layout, const LayoutTarget& target,
                          const LayoutOptions& options, int threads);

struct ImportOptions {
  ModelIdentity model;            // who made it; layouts can say little about that
  std::vector<LayerMeta> layers;  // of that model
  std::int64_t vocab = 0;
  std::optional<std::vector<std::int32_t>> tokens;  // for layouts whose files have none
  std::optional<std::int32_t> bos;
  std::string id;  // of the one chunk
  std::vector<HistoryEntry> history;
  int threads = 1;
};

// One member into `output`, which the caller commits: raw tiles as kvprefill writes them, keys
// without RoPE.
void import_cache(const std::string& path, const Layout& layout, const LayoutOptions& options,
                  const ImportOptions& import, Output& output);

}  // namespace kv
