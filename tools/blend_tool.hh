#pragma once
// What kvblend is: its options and its work, for itself and for those that run it in their process.

#include "kv/blend/fuse.hh"
#include "kv/session/session.hh"
#include "model_options.hh"

namespace kv {

extern const ToolInfo kBlendInfo;

struct BlendOptions {
  ModelToolOptions model;
  std::vector<std::string> files;
  std::string order, prefix, separator, suffix, suffix_file;
  std::string amount = "15%", select, measure = "v", gradual, dtype;
  std::string throughput, read_rate;
  std::int64_t check_layer = -1, next_tokens = 32;
  std::uint64_t seed = 0;
  double floor_percent = 15, max_kld = -1, min_top1 = 0;
  bool keep_bos = false, special = false, stats = false, no_history = false;
  bool plan = false, verify = false, json = false;
  OutputOptions output;
};

void declare_blend(CLI::App& app, BlendOptions& options);
int blend_body(const BlendOptions& options, const Invocation& call);
// The same with a model whose weights are loaded, whatever the options say of one; `told` what was
// done. Both may be null. Not with `plan`, which loads them itself.
int blend(const BlendOptions& options, const Invocation& call, const Session* loaded,
          FuseReport* told);

}  // namespace kv
