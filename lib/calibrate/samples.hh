#pragma once
// Caches of the texts that a profile is made from, on disk, so that a run that was cut off goes on
// and a large model's fit in no memory at once; and what the model's queries look like.

#include "kv/container/reader.hh"
#include "kv/documents/documents.hh"
#include "kv/session/session.hh"

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace kv {

struct SampleOptions {
  std::string work_dir;              // of the caches; made when it is not there
  std::int64_t window = 2048;        // tokens prefilled together; longer texts are cut
  std::int64_t most_tokens = 65536;  // of all windows that are fitted
  std::size_t held_out = 0;          // windows beside them, none where there are under 4 each
  std::uint64_t seed = 1;            // of the distances at which queries are sampled
  std::function<void(std::int64_t)> on_tokens;  // of a window; and ...
  // ... before the first, of all, and how many windows are fitted and held out.
  std::function<void(std::int64_t, std::size_t, std::size_t)> on_total;
};

class Samples {
 public:
  // Windows of the documents' tokens, of each document its first one before any has its second, so
  // that a few tokens are of many texts; those under 64 tokens are left out. What is in work_dir
  // already is verified and used. Throws kInput when nothing is left.
  Samples(const Session& session, const std::vector<Document>& documents,
          const SampleOptions& options);

  std::size_t windows() const { return files_.size(); }
  // The first so many are fitted, the others held out.
  std::size_t fitted() const { return fitted_; }
  const std::string& path(std::size_t window) const { return paths_[window]; }
  std::int64_t tokens(std::size_t window) const;
  std::vector<std::int32_t> ids(std::size_t window) const;
  const Meta& meta() const { return files_.front()->meta(0); }
  // Raw rows as they lie in the file.
  TensorView rows(std::size_t window, std::uint32_t layer, format::Kind kind) const;
  // IMPT's bytes, a token one.
  std::span<const std::uint8_t> importance(std::size_t window, std::uint32_t layer,
                                           format::Kind kind) const;
  // Sum of w w^T over sampled queries, w the query as a key before it sees it, un-rotated: what
  // an error of a key weighs. f64 [kv heads, dim, dim]. Of the windows that are fitted.
  const at::Tensor& query_metric(std::uint32_t layer) const;

 private:
  void prefill(const Session& session, const std::vector<std::int32_t>& ids,
               const std::string& path, const SampleOptions& options, std::uint64_t number);
  void add_metrics(const std::string& path);

  std::size_t fitted_ = 0;
  std::vector<std::string> paths_;
  std::vector<std::unique_ptr<IndexedFile>> files_;
  std::vector<Importance> importance_;
  std::vector<at::Tensor> metrics_;  // by layer: sums over the windows
};

// Rows as f32 [tokens, values of a token].
at::Tensor floats(const TensorView& rows);

}  // namespace kv
