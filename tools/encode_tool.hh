#pragma once
// What kvencode is: its options and its work, for itself and for those that run it in their
// process.

#include "kv/codec/transcode.hh"
#include "tool.hh"

namespace kv {

extern const ToolInfo kEncodeInfo;

struct EncodeOptions {
  std::string file;
  bool no_importance = false, lossless = false, progressive = false, no_history = false;
  int step = 0;
  std::optional<double> bits, max_kld;
  std::string codec;
  CodecOptions coding;
  std::int64_t tokens_per_tile = 0;
  int threads = 1;
  OutputOptions output;
};

void declare_encode(CLI::App& app, EncodeOptions& options);
int encode_body(const EncodeOptions& options, const Invocation& call);

}  // namespace kv
