// SPDX-License-Identifier: BSD-3-Clause
#include "attach/performance.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

namespace nbdkit {
namespace {

// A server that has been stopped for as long as this is told of all the same.
constexpr Seconds kForgotten{365 * 86'400};

constexpr double kMegabyte = 1e6;
constexpr double kLongest = 1e9;  // seconds; what a keeper says is not believed beyond

double seconds_of(Nanoseconds time) { return std::chrono::duration<double>(time).count(); }

Json microseconds(const std::optional<Nanoseconds>& time) {
  return time ? Json(static_cast<double>(time->count()) / 1e3) : Json();
}

Result<std::optional<double>> number_of(const Json& json, std::string_view key, double max) {
  const Json* value = json.find(key);
  if (value == nullptr || value->is_null()) return std::optional<double>();
  std::optional<double> number = value->as_double();
  if (!number || !std::isfinite(*number) || *number < 0 || *number > max) {
    return Error(std::errc::protocol_error,
                 fmt::format("the keeper's status has no valid {}", key));
  }
  return number;
}

Result<void> read_number(const Json& json, std::string_view key, double& into) {
  Result<std::optional<double>> number = number_of(json, key, 1e18);
  if (!number.ok()) return std::move(number).error();
  into = number.value().value_or(0);
  return {};
}

Result<void> read_time(const Json& json, std::string_view key, std::optional<Nanoseconds>& into) {
  Result<std::optional<double>> number = number_of(json, key, kLongest * 1e6);
  if (!number.ok()) return std::move(number).error();
  if (number.value()) into = Nanoseconds(std::llround(*number.value() * 1e3));
  return {};
}

}  // namespace

Json to_json(const Performance& performance) {
  Json json = Json::object();
  json.set("problem", performance.problem.empty() ? Json() : Json(performance.problem))
      .set("interval_us", microseconds(performance.interval))
      .set("reads_per_s", performance.interval ? Json(performance.reads) : Json())
      .set("writes_per_s", performance.interval ? Json(performance.writes) : Json())
      .set("others_per_s", performance.interval ? Json(performance.others) : Json())
      .set("read_bytes_per_s", performance.interval ? Json(performance.read_bytes) : Json())
      .set("written_bytes_per_s", performance.interval ? Json(performance.written_bytes) : Json())
      .set("p50_us", microseconds(performance.p50))
      .set("p99_us", microseconds(performance.p99))
      .set("under_way", performance.problem.empty() ? Json(performance.under_way) : Json())
      .set("oldest_us", microseconds(performance.oldest));
  return json;
}

Result<Performance> parse_performance(const Json& json) {
  Performance performance;
  const Json* problem = json.find("problem");
  if (problem == nullptr || (!problem->is_null() && problem->as_string() == nullptr)) {
    return Error(std::errc::protocol_error, "the keeper's status has no valid performance");
  }
  if (!problem->is_null()) performance.problem = *problem->as_string();
  NBDKIT_TRY(read_time(json, "interval_us", performance.interval));
  NBDKIT_TRY(read_number(json, "reads_per_s", performance.reads));
  NBDKIT_TRY(read_number(json, "writes_per_s", performance.writes));
  NBDKIT_TRY(read_number(json, "others_per_s", performance.others));
  NBDKIT_TRY(read_number(json, "read_bytes_per_s", performance.read_bytes));
  NBDKIT_TRY(read_number(json, "written_bytes_per_s", performance.written_bytes));
  NBDKIT_TRY(read_time(json, "p50_us", performance.p50));
  NBDKIT_TRY(read_time(json, "p99_us", performance.p99));
  double under_way = 0;
  NBDKIT_TRY(read_number(json, "under_way", under_way));
  performance.under_way = static_cast<std::uint64_t>(under_way);
  NBDKIT_TRY(read_time(json, "oldest_us", performance.oldest));
  return performance;
}

std::string describe_time(Nanoseconds time) {
  double seconds = seconds_of(time);
  if (seconds < 1e-3) return fmt::format("{:.3g} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.3g} ms", seconds * 1e3);
  return fmt::format("{:.1f} s", seconds);
}

std::string describe(const Performance& performance) {
  if (!performance.problem.empty()) {
    return fmt::format("  performance  not known: {}\n", performance.problem);
  }
  std::string out;
  if (performance.interval) {
    out += fmt::format(
        "  rates        {:.1f} reads/s ({:.1f} MB/s), {:.1f} writes/s ({:.1f} MB/s), {:.1f} "
        "others/s, of the last {}\n",
        performance.reads, performance.read_bytes / kMegabyte, performance.writes,
        performance.written_bytes / kMegabyte, performance.others,
        describe_time(*performance.interval));
  }
  if (performance.p50 && performance.p99) {
    out += fmt::format("  latency      p50 {}, p99 {}\n", describe_time(*performance.p50),
                       describe_time(*performance.p99));
  }
  out += fmt::format("  under way    {} in the server", performance.under_way);
  if (performance.oldest)
    out += fmt::format(", the oldest for {}", describe_time(*performance.oldest));
  return out + "\n";
}

// Whoever asks first asks the server; all wait for the same answer.
Task<void> PerformanceWatch::look(HandoffClient* server, std::int64_t process) {
  if (process != process_) {
    process_ = process;
    asking_ = refused_ = false;
    latest_.reset();
    kept_.clear();
    problem_ = "no server runs";
    end_waiting();
  }
  if (server == nullptr || refused_) co_return;
  if (!asking_) {
    if (!gate_.enter()) co_return;
    asking_ = true;
    asked_at_ = loop_.now();
    finish(ask(*server, process), [this](Result<void>) { gate_.leave(); });
    if (!asking_) co_return;
  }
  Gate answered(loop_);
  waiting_.push_back(&answered);
  Result<void> waited = co_await loop_.sleep(kAnswerMax, answered).as_result();
  std::erase(waiting_, &answered);
}

Task<void> PerformanceWatch::ask(HandoffClient& server, std::int64_t process) {
  Result<RequestFigures> told = co_await server.figures(true, kForgotten).as_result();
  if (process != process_) co_return;
  asking_ = false;
  take(std::move(told));
  end_waiting();
}

void PerformanceWatch::take(Result<RequestFigures> told) {
  if (!told.ok()) {
    latest_.reset();
    refused_ = told.error().code == std::errc::not_supported;
    problem_ = refused_ ? "the server is of a version that does not tell"
                        : std::string(told.error().message());
    return;
  }
  problem_.clear();
  latest_ = Sample{loop_.now(), std::move(told).value()};
  if (!kept_.empty() && latest_->at - kept_.back().at < kIntervalMin) return;
  kept_.push_back(*latest_);
  if (kept_.size() > 2) kept_.pop_front();
}

void PerformanceWatch::end_waiting() {
  for (Gate* one : std::exchange(waiting_, {})) one->close();
}

const RequestFigures* PerformanceWatch::figures() const {
  bool late = asking_ && loop_.now() - asked_at_ >= kAnswerMax;
  return latest_ && !late ? &latest_->figures : nullptr;
}

Performance PerformanceWatch::performance() const {
  Performance out;
  Nanoseconds silent = asking_ ? loop_.now() - asked_at_ : Nanoseconds(0);
  if (silent >= kAnswerMax) {
    out.problem = fmt::format("the server has not answered for {}", describe_time(silent));
    return out;
  }
  if (!latest_) {
    out.problem = problem_;
    return out;
  }
  const RequestFigures& now = latest_->figures;
  out.under_way = now.under_way;
  out.oldest = now.oldest;
  LatencyHistogram latency = now.latency;
  if (kept_.front().at < latest_->at) {
    const RequestFigures& before = kept_.front().figures;
    out.interval = latest_->at - kept_.front().at;
    const double seconds = seconds_of(*out.interval);
    auto rate = [seconds](std::uint64_t later, std::uint64_t earlier) {
      return later > earlier ? static_cast<double>(later - earlier) / seconds : 0;
    };
    for (std::size_t i = 0; i < now.kinds.size(); ++i) {
      double requests = rate(now.kinds[i].requests, before.kinds[i].requests);
      bool reads = i == static_cast<std::size_t>(RequestKind::read);
      bool writes = i == static_cast<std::size_t>(RequestKind::write);
      (reads ? out.reads : writes ? out.writes : out.others) += requests;
    }
    out.read_bytes = rate(now.of(RequestKind::read).bytes, before.of(RequestKind::read).bytes);
    out.written_bytes = rate(now.of(RequestKind::write).bytes, before.of(RequestKind::write).bytes);
    latency = now.latency.since(before.latency);
  }
  out.p50 = latency.quantile(500);
  out.p99 = latency.quantile(990);
  return out;
}

}  // namespace nbdkit
