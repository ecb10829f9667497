#pragma once
// Threads that stay, for short pieces of work.

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace kv {

class Workers {
 public:
  // The caller's thread is one of them; the others start with the first work there is for them.
  explicit Workers(int threads) : threads_(threads) {}
  ~Workers() {
    for (std::jthread& worker : workers_) worker.request_stop();
    wake_.notify_all();
  }
  Workers(const Workers&) = delete;

  int threads() const { return threads_; }

  // work(0) to work(count - 1), in any order, some at the same time. Returns when all are done;
  // throws what the first by number of those that threw threw.
  void each(std::size_t count, const std::function<void(std::size_t)>& work) {
    if (threads_ < 2 || count < 2) {
      for (std::size_t i = 0; i < count; ++i) work(i);
      return;
    }
    std::unique_lock lock(mutex_);
    work_ = &work, count_ = count, next_ = 0, busy_ = 0;
    failed_ = count, error_ = nullptr;
    while (workers_.size() + 1 < std::min(static_cast<std::size_t>(threads_), count)) {
      workers_.emplace_back([this](const std::stop_token& stop) { serve(stop); });
    }
    wake_.notify_all();
    while (next_ < count_) take(lock);
    done_.wait(lock, [&] { return busy_ == 0; });
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  // Under the lock, which is let go during the work.
  void take(std::unique_lock<std::mutex>& lock) {
    const std::size_t i = next_++;
    ++busy_;
    lock.unlock();
    std::exception_ptr error;
    try {
      (*work_)(i);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    --busy_;
    if (error && i < failed_) {
      failed_ = i;
      error_ = error;
    }
  }

  void serve(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (wake_.wait(lock, stop, [&] { return next_ < count_; })) {
      while (next_ < count_) take(lock);
      if (busy_ == 0) done_.notify_one();
    }
  }

  int threads_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::condition_variable done_;
  const std::function<void(std::size_t)>* work_ = nullptr;
  std::size_t count_ = 0, next_ = 0, busy_ = 0, failed_ = 0;
  std::exception_ptr error_;
  std::vector<std::jthread> workers_;  // last: stopped and joined before the rest goes
};

}  // namespace kv
