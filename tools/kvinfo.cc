// kvinfo: what is inside a KV cache file, or a model.

#include "kv/checkpoint/card.hh"
#include "kv/inspect/inspect.hh"
#include "kv/tokenizer/tokenizer.hh"
#include "tool.hh"

namespace {

struct Options {
  std::vector<std::string> files;
  std::string model;
  bool json = false, check = false, hex = false, tokens = false;
};

void declare(CLI::App& app, Options& o) {
  app.add_option("file", o.files, "kv streams (default: -)")->type_name("FILE");
  app.add_flag("--json", o.json, "one JSON object a file");
  app.add_flag("--check", o.check, "read and verify everything");
  app.add_flag("--hex", o.hex, "every field with its offset, bytes, name and value");
  app.add_flag("--tokens", o.tokens, "print the token ids; with -m the pieces too");
  app.add_option("-m,--model", o.model, "without FILE: print the model's card")->type_name("MODEL");
}

void print_card(const Options& o) {
  const auto checkpoint = kv::Checkpoint::open(o.model);
  kv::print(o.json ? kv::card_json(*checkpoint) : kv::card_text(*checkpoint));
}

void print_hex(const std::string& file) {
  kv::Input input = kv::Input::open(file);
  const kv::Mapping mapping = input.size_bytes() ? input.map() : kv::Mapping();
  kv::Reader::Options options;
  options.on_field = [&](const kv::FieldNote& note) {
    const kv::ByteView all = mapping.bytes();
    const bool there = note.offset <= all.size() && note.size_bytes <= all.size() - note.offset;
    kv::print(
        kv::hex_line(note, there ? all.subspan(note.offset, note.size_bytes) : kv::ByteView()));
  };
  kv::Reader reader(std::move(input), options);
  while (reader.next_member()) {
    while (reader.next_tile()) {
    }
  }
}

void print_tokens(const Options& o, const std::vector<kv::MemberReport>& members) {
  std::unique_ptr<kv::Tokenizer> tokenizer;
  if (!o.model.empty()) {
    tokenizer = kv::Tokenizer::open(kv::Checkpoint::open(o.model)->tokenizer_path());
  }
  for (const kv::MemberReport& member : members) {
    for (const std::int32_t id : member.tokens) {
      kv::print(tokenizer ? kv::token_line(id, tokenizer->decode({&id, 1}))
                          : fmt::format("{}\n", id));
    }
  }
}

int program_body(const Options& o, const kv::Invocation& call) {
  if (!o.model.empty() && o.files.empty() && !o.tokens) {
    print_card(o);
    return 0;
  }
  std::vector<std::string> files = o.files;
  if (files.empty()) files.push_back("-");
  for (const std::string& file : files) {
    if (o.hex) {
      print_hex(file);
      continue;
    }
    const std::vector<kv::MemberReport> members = kv::inspect(file, o.check);
    if (o.tokens) {
      print_tokens(o, members);
    } else if (o.json) {
      kv::print(kv::report_json(file, members));
    } else if (!o.check) {
      kv::print(kv::report_text(file, members));
    } else if (!call.quiet) {
      kv::print(kv::check_text(file, members));
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const kv::ToolInfo info = {"kvinfo", "what is inside a KV cache file, or a model",
                             "  kvinfo report.kv\n"
                             "  kvinfo --check --quiet *.kv && echo sound\n"
                             "  kvinfo -m smollm2\n"};
  return kv::tool_main<Options>(info, argc, argv, declare, program_body);
}
