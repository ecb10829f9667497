#include "kv/model/parallel.hh"

#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>

extern "C" void GOMP_parallel(void (*work)(void*), void* data, unsigned threads, unsigned flags);
extern "C" void omp_set_num_threads(int threads);

namespace kv {
namespace {

using Clock = std::chrono::steady_clock;

// How long one waits awake for what the others do: above the time between two loops of a layer,
// below what anybody else on these cores would feel.
constexpr std::chrono::microseconds kAwake(50);

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits until `value` is no longer `old`: awake at first, then asleep.
template <typename T>
void wait_while(const std::atomic<T>& value, T old) {
  const auto end = Clock::now() + kAwake;
  do {
    for (int i = 0; i < 16; ++i) {
      if (value.load() != old) return;
      relax();
    }
  } while (Clock::now() < end);
  value.wait(old);
}

struct Job {
  std::int64_t count;
  const std::function<void(std::int64_t)>& body;
  std::atomic<std::int64_t> next = 0;
  std::atomic_flag failed = ATOMIC_FLAG_INIT;
  std::exception_ptr error = nullptr;

  void work() {
    try {
      for (auto i = next++; i < count; i = next++) body(i);
    } catch (...) {
      if (!failed.test_and_set()) error = std::current_exception();
      next = count;
    }
  }
};

thread_local bool in_job = false;

// Threads that help with the job that is posted. One that comes late, or not at all because others
// use the core, is not waited for.
class Helpers {
 public:
  // False, and nothing done, while another thread's job is on.
  bool run(Job& job, int helpers) {
    const std::unique_lock lock(busy_, std::try_to_lock);
    if (!lock) return false;
    for (; started_ < helpers; ++started_) std::thread([this, i = started_] { help(i); }).detach();
    wanted_ = helpers;
    job_ = &job;
    ++turn_;
    turn_.notify_all();
    in_job = true;
    job.work();
    in_job = false;
    job_ = nullptr;
    for (int left = active_; left != 0; left = active_) wait_while(active_, left);
    return true;
  }

 private:
  void help(int index) {
    in_job = true;
    at::get_num_threads();  // its first call sets this thread's number
    omp_set_num_threads(1);
    for (unsigned seen = 0;;) {
      wait_while(turn_, seen);
      seen = turn_;
      // In this order: whoever takes the job back sees that somebody is at it.
      ++active_;
      if (Job* job = job_; job != nullptr && index < wanted_) job->work();
      --active_;
      active_.notify_one();
    }
  }

  std::mutex busy_;
  std::atomic<unsigned> turn_ = 0;
  std::atomic<Job*> job_ = nullptr;
  std::atomic<int> active_ = 0, wanted_ = 0;
  int started_ = 0;
};

// LibTorch's own loops within a job: on this thread only.
class OneThread {
 public:
  explicit OneThread(int threads) : threads_(threads) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(threads_); }
  OneThread(const OneThread&) = delete;

 private:
  int threads_;
};

}  // namespace

void parallel_items(std::int64_t count, const std::function<void(std::int64_t)>& body) {
  const int threads = at::get_num_threads();
  if (count > 1 && threads > 1 && !in_job && !at::in_parallel_region()) {
    static auto& helpers = *new Helpers;  // never destroyed: they sleep in it until the end
    const OneThread one(threads);
    Job job{count, body};
    const auto most = static_cast<int>(std::min<std::int64_t>(count, threads)) - 1;
    if (helpers.run(job, most)) {
      if (job.error) std::rethrow_exception(job.error);
      return;
    }
  }
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

void parallel_ranges(std::int64_t count, std::int64_t grain,
                     const std::function<void(std::int64_t, std::int64_t)>& body) {
  parallel_items((count + grain - 1) / grain,
                 [&](std::int64_t i) { body(i * grain, std::min(count, (i + 1) * grain)); });
}

void work_alone() { in_job = true; }

// libgomp spins briefly when it knows of more threads than cores, and reads its environment before
// main(); so a second, small pool is made, which sleeps for ever.
void share_cores() {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  static std::once_flag once;
  std::call_once(once, [] {
    std::thread([] {
      GOMP_parallel([](void*) {}, nullptr, 2, 0);
      for (;;) ::pause();
    }).detach();
  });
}

}  // namespace kv
