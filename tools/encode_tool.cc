#include "encode_tool.hh"

#include <algorithm>

namespace kv {

const ToolInfo kEncodeInfo = {"kvencode", "compress KV caches",
                              "  kvencode --lossless <report.kv >report.kvz\n"
                              "  kvprefill -m smollm2 report.txt | kvencode -l 0 -o report.kvz\n"};

void declare_encode(CLI::App& app, EncodeOptions& o) {
  app.add_option("file", o.file, "a .kv stream (default: -)")->type_name("FILE");
  app.add_option("-l,--level", o.coding.level, "0: lossless; 1 to 9 are lossy")
      ->type_name("N")
      ->check(CLI::Range(0, 9));
  app.add_flag("--lossless", o.lossless, "level 0: every bit comes back");
  app.add_option("--codec", o.codec,
                 "clp, ecsq, planes, raw, q8_0, q4_0, kivi, cachegen or cachegen-code")
      ->type_name("NAME");
  app.add_option("--bits", o.bits, "clp: at most so many bits a value; kivi: 2 to 4")
      ->type_name("B")
      ->check(CLI::Range(0.01, 64.0));
  app.add_option("--max-kld", o.max_kld, "clp: the smallest file with at most this divergence")
      ->type_name("X")
      ->check(CLI::Range(1e-9, 100.0));
  app.add_option("--group", o.coding.group, "kivi: values that share a scale")->type_name("N");
  app.add_option("--chunk", o.coding.chunk, "cachegen-code: tokens that share tables")
      ->type_name("N");
  app.add_option("--tables", o.coding.tables, "cachegen-code: shipped or compact")
      ->type_name("HOW");
  app.add_option("--profile", o.coding.profile, "of the model, made by kvcalibrate")
      ->type_name("FILE");
  app.add_flag("--rope", o.coding.rope, "lossy codecs: code keys as the rotation leaves them");
  app.add_option("--step", o.step, "clp, ecsq: eighths of an octave beside the level's step")
      ->type_name("N")
      ->check(CLI::Range(-64, 64));
  app.add_flag("--no-importance", o.no_importance, "clp, ecsq: one step for all tokens");
  app.add_flag("--progressive", o.progressive,
               "in three qualities, of which kvcat --quality leaves some out");
  app.add_option("--tokens-per-tile", o.tokens_per_tile, "cut larger tiles; what is read at once")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 26));
  declare_threads(app, o.threads);
  app.add_flag("--no-history", o.no_history, "leave out which tools made the file");
  declare_output(app, o.output);
}

namespace {

int level_of(const EncodeOptions& o) { return o.coding.level.value_or(o.lossless ? 0 : -1); }

// A lossy level without a codec's name: `clp` where the model has a profile, else `ecsq`.
std::string codec_of(const EncodeOptions& o) {
  if (!o.codec.empty()) return o.codec;
  if (o.progressive) return "ecsq";
  if (level_of(o) < 0 && (o.max_kld || o.bits)) return "clp";
  if (level_of(o) < 0) {
    fail_usage("give a level: --lossless (-l 0), or -l 1 to -l 4; or --max-kld or --bits");
  }
  if (level_of(o) == 0) return "planes";
  return o.coding.profile ? "clp" : "";
}

// Of our own lossy codecs.
void check_lossy(const EncodeOptions& o, const char* codec) {
  if (o.lossless || level_of(o) == 0) fail_usage("codec {} is not lossless", codec);
  const CodecOptions& c = o.coding;
  if (c.group || c.chunk || c.tables || c.rope) {
    fail_usage("codec {} has no --group, --chunk, --tables and --rope", codec);
  }
  if (level_of(o) > 4) fail_usage("codec {} has levels 1 to 4", codec);
}

constexpr std::int64_t kTileTokens = 1024, kMostTileTokens = 1 << 15;

ClpOptions clp_options(const EncodeOptions& o) {
  check_lossy(o, "clp");
  if ((o.max_kld || o.bits) && (o.coding.level || o.step != 0 || (o.max_kld && o.bits))) {
    fail_usage("--max-kld or --bits choose level and step: give one, without --level and --step");
  }
  ClpOptions clp{.level = o.coding.level.value_or(2),
                 .base_step = o.step,
                 .max_kld = o.max_kld,
                 .max_bits = o.bits,
                 .use_importance = !o.no_importance};
  if (o.coding.profile) clp.profile = Profile::open(*o.coding.profile);
  clp.tokens_per_tile =
      std::min(o.tokens_per_tile > 0 ? o.tokens_per_tile : kTileTokens, kMostTileTokens);
  return clp;
}

EcsqOptions ecsq_options(const EncodeOptions& o) {
  check_lossy(o, "ecsq");
  if (o.coding.profile || o.max_kld || o.bits) {
    fail_usage("codec ecsq has no --profile, --max-kld and --bits");
  }
  return {.level = o.coding.level.value_or(2),
          .base_step = o.step,
          .refinements = o.progressive ? 2 : 0,
          .tokens_per_tile =
              std::min(o.tokens_per_tile > 0 ? o.tokens_per_tile : kTileTokens, kMostTileTokens),
          .use_importance = !o.no_importance};
}

std::unique_ptr<Codec> encoder_of(const EncodeOptions& o, const std::string& codec) {
  const bool lossless = codec == "planes" || codec == "raw";
  CodecOptions coding = o.coding;
  if (o.bits) {
    coding.bits = static_cast<int>(*o.bits);
    if (*coding.bits != *o.bits) {
      fail_usage("codec {}: --bits {} is no integer", codec, *o.bits);
    }
  }
  if (!lossless) {
    if (level_of(o) == 0) fail_usage("codec {} is not lossless", codec);
    return make_encoder(codec, coding);
  }
  if (level_of(o) > 0) {
    fail_usage("level {} is lossy, which codec {} is not", level_of(o), codec);
  }
  coding.level.reset();
  return make_encoder(codec, coding);
}

}  // namespace

int encode_body(const EncodeOptions& o, const Invocation& call) {
  const std::string codec = codec_of(o);
  TranscodeOptions options{.tokens_per_tile = o.tokens_per_tile};
  std::unique_ptr<Codec> encoder;
  if (codec == "clp" || codec == "ecsq" || codec.empty()) {
    if (codec != "ecsq" && o.progressive) fail_usage("codec clp has no --progressive");
    if (codec != "ecsq") options.clp = clp_options(o);
    if (codec != "clp") options.ecsq = ecsq_options(o);
    if (!call.quiet) options.note = [&](const std::string& text) { note(call, text); };
  } else {
    if (o.step != 0 || o.no_importance || o.progressive) {
      fail_usage("codec {} has no --step, --no-importance and --progressive", codec);
    }
    if (o.max_kld) fail_usage("codec {} has no --max-kld", codec);
    encoder = encoder_of(o, codec);
    options.codec = encoder.get();
  }
  // CacheGen's chunk, which decodes alone.
  if (codec == "cachegen" && o.tokens_per_tile == 0) options.tokens_per_tile = 1500;
  options.threads = o.threads;
  if (!o.no_history) options.history = {call.tool, call.version, call.arguments};
  TileSource source(input_path(o.file, call));
  Output output = open_output(o.output, call);
  Writer writer(output);
  transcode(source, writer, options);
  output.commit();
  return 0;
}

}  // namespace kv
