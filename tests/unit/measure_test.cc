// Recipes as steps from stream to stream: what is handed on, which stream counts as kept, and when
// the work is done.
#include "error_kind.hh"
#include "kv/measure/recipe_run.hh"

#include <chrono>
#include <thread>

namespace {

using namespace std::chrono_literals;

std::string text_of(const kv::MemoryFile& file) {
  kv::Input input = kv::Input::open(file.path());
  return std::string(kv::as_text(input.read_all(1 << 20)));
}

void fill(const kv::MemoryFile& file, const std::string& text) {
  kv::Output output = file.output();
  output.write(kv::as_bytes(text));
  output.commit();
}

// Hands on what it got with `tail` behind it, or only its first `keep` characters.
class Step : public kv::Stage {
 public:
  Step(std::string tail, std::size_t keep, bool fuses = false, bool knows = true)
      : tail_(std::move(tail)), keep_(keep), fuses_(fuses), knows_(knows) {}
  bool in_process() const override { return knows_; }
  bool fuses() const override { return fuses_; }
  std::optional<kv::StageWork> run(const kv::MemoryFile& from, const kv::MemoryFile& to) override {
    std::this_thread::sleep_for(20ms);
    fill(to, (text_of(from) + tail_).substr(0, keep_));
    if (!knows_) return std::nullopt;
    return kv::StageWork{3, 10};
  }

 private:
  std::string tail_;
  std::size_t keep_;
  bool fuses_, knows_;
};

kv::RecipeRun run(kv::Stages stages) {
  const kv::MemoryFile chunks("chunks");
  fill(chunks, "abcdefgh");
  return kv::run_recipe(stages, chunks);
}

kv::Stages stages_of(std::initializer_list<Step> steps) {
  kv::Stages stages;
  for (const Step& step : steps) stages.push_back(std::make_unique<Step>(step));
  return stages;
}

}  // namespace

TEST_CASE("the smallest stream is what would be kept, and what follows it takes time") {
  // Compressed and decompressed.
  const kv::RecipeRun codec = run(stages_of({{"", 3}, {"xxxxx", 99}}));
  CHECK(text_of(codec.result) == "abcxxxxx");
  CHECK(codec.bytes == 3);
  CHECK(codec.before_s >= 0.02);
  CHECK(codec.after_s >= 0.02);
  CHECK(codec.after_s < 10 * codec.before_s);
  REQUIRE(codec.work);
  CHECK(codec.work->row_layers == 6);
  CHECK(codec.work->flops == 20);
  CHECK(codec.in_process);
  // Of streams as small as each other the last: nothing is left to do.
  CHECK(run(stages_of({{"", 8}})).after_s == 0);
  // Larger: all of it is done when the question is there.
  const kv::RecipeRun larger = run(stages_of({{"xx", 99}}));
  CHECK(larger.bytes == 8);
  CHECK(larger.before_s == 0);
}

TEST_CASE("what is fused for one question is not kept") {
  const kv::RecipeRun fused = run(stages_of({{"", 5}, {"", 4, true}, {"", 1}}));
  CHECK(fused.bytes == 5);
  CHECK(fused.before_s >= 0.02);
  CHECK(fused.after_s >= 0.04);
}

TEST_CASE("a stage that does not know what it ran leaves it unknown") {
  const kv::RecipeRun run_of_shell = run(stages_of({{"", 8}, {"", 8, false, false}}));
  CHECK_FALSE(run_of_shell.work);
  CHECK_FALSE(run_of_shell.in_process);
}

TEST_CASE("a shell gets the stream and the variables, and its status counts") {
  const auto shell = [](const std::string& text) {
    kv::Stages stages;
    stages.push_back(kv::shell_stage(text, {{"KVEVAL_ID", "seven"}}));
    return run(std::move(stages));
  };
  CHECK(text_of(shell("tr a-c A-C; printf %s \"$KVEVAL_ID\"").result) == "ABCdefghseven");
  CHECK(kv::kind_of([&] { shell("false | cat"); }) == kv::ErrorKind::kIo);
  CHECK(kv::kind_of([&] { shell("kill -9 $$"); }) == kv::ErrorKind::kIo);
  CHECK(kv::shell_stage("env kvblend -r 0", {})->fuses());
  CHECK_FALSE(kv::shell_stage("cat", {})->fuses());
}
