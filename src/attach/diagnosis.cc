// SPDX-License-Identifier: BSD-3-Clause
#include "attach/diagnosis.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "async/runtime.h"
#include "attach/bounded_call.h"
#include "attach/control_client.h"
#include "attach/device_uses.h"
#include "attach/keeper_identity.h"
#include "attach/keeper_log.h"
#include "attach/kernel_text.h"
#include "attach/listing.h"
#include "attach/living_server.h"
#include "attach/saved_options.h"
#include "attach/secrets.h"
#include "build_id.h"
#include "netlink/nbd_control.h"

namespace nbdkit {
namespace {

constexpr Seconds kPartMax{10};
constexpr std::size_t kPartSizeMax = 1024 * 1024;

std::uint64_t number_of(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  return value != nullptr ? value->as_unsigned().value_or(0) : 0;
}

// Whether it is still the process that a file tells of.
bool is_there(std::uint64_t pid, std::uint64_t start_time) {
  return pid > 0 && start_time > 0 && process_start_time(static_cast<pid_t>(pid)) == start_time;
}

// Asks the driver, as long as that answers.
class Driver {
 public:
  std::string show(std::uint32_t index) {
    if (!loop_.usable().ok()) return "no descriptors are left\n";
    std::string out;
    finish(ask(index), [&](Result<std::string> said) {
      out = said.ok() ? std::move(said).value() : fmt::format("{}\n", said.error().message());
      loop_.stop();
    });
    loop_.run();
    return out;
  }

 private:
  Task<std::string> ask(std::uint32_t index) {
    Result<std::vector<DeviceStatus>> said = std::vector<DeviceStatus>();
    Result<void> opened = co_await control_.open().as_result();
    if (opened.ok()) said = co_await control_.status(index).as_result();
    co_await control_.close(kPartMax);
    if (!opened.ok()) co_await fail(std::move(opened).error());
    if (!said.ok()) co_await fail(std::move(said).error());
    if (said.value().empty()) co_return std::string("no such device\n");
    co_return fmt::format("/dev/nbd{}: {}\n", index,
                          said.value().front().connected ? "connected" : "not connected");
  }

  Runtime runtime_;
  Loop& loop_ = runtime_.main_loop();
  KeeperLog log_{false};
  Sysfs sysfs_;
  NbdControl control_{loop_, log_, sysfs_};
};

class Diagnosis {
 public:
  Diagnosis(std::uint32_t index, const std::string& run_folder)
      : index_(index), place_(run_folder), folder_(RunFolder::open_existing(run_folder)) {
    if (!folder_.ok()) return;
    Result<std::string> text = folder_.value().read_state(index_);
    if (text.ok()) state_text_ = std::move(text).value();
    Result<Json> state = Json::parse(state_text_);
    if (state.ok()) state_ = std::move(state).value();
    const Json* boot = state_.find("boot_id");
    if (boot == nullptr || *boot != Json(boot_id())) state_ = Json();
    find_processes();
    find_options();
  }

  std::string write() {
    std::string out;
    auto part = [&](std::string_view title, const std::function<std::string()>& find_out) {
      Result<std::string> found = bounded_call(find_out, kPartMax, kPartSizeMax);
      out += fmt::format("== {} ==\n{}", title,
                         found.ok() ? found.value() : found.error().message() + "\n");
      out += out.ends_with('\n') ? "\n" : "\n\n";
    };
    part("this report", [this] { return version(); });
    part("status", [this] { return status(); });
    part("keeper's log", [this] { return log(); });
    part("keeper's state file", [this] { return state_file(); });
    part("arguments", [this] { return arguments(); });
    part("uses", [this] { return uses(); });
    part("driver", [this] { return driver(); });
    part("device", [this] { return device(); });
    part("module", [] { return module(); });
    part("kernel", [] { return kernel(); });
    part("kernel's log", [this] { return show_kernel_log(index_); });
    part("keeper's process", [this] { return process(keeper_, "the keeper"); });
    part("server's process", [this] { return process(server_, "the server"); });
    return mask_secrets(out, secrets_);
  }

 private:
  void find_processes() {
    std::uint64_t keeper = number_of(state_, "pid");
    if (is_there(keeper, number_of(state_, "keeper_start_time"))) keeper_ = keeper;
    const Json* handover = state_.find("handover");
    std::uint64_t server = number_of(state_, "server_pid");
    bool lives = handover != nullptr && is_there(server, number_of(*handover, "server_start_time"));
    if (lives) server_ = server;
  }

  // With secrets, which are to be found wherever they stand, only the server holds them.
  void find_options() {
    Result<std::string> text = folder_.value().read_start(index_);
    const Json* handover = state_.find("handover");
    std::optional<HeldFile> held =
        handover != nullptr ? parse_held_file(handover->find("start")) : std::nullopt;
    std::optional<LivingServer> server;
    if (server_ && held) {
      server = LivingServer::find(static_cast<pid_t>(*server_),
                                  number_of(*handover, "server_start_time"));
    }
    if (server) {
      UniqueFd file = server->open(*held, O_RDONLY);
      if (file) text = read_sealed(file.get());
    }
    if (!text.ok()) return;
    Result<SavedOptions> saved = parse_saved_options(text.value());
    if (!saved.ok()) return;
    options_ = std::move(saved.value().options);
    secrets_ = secrets_of(*options_);
  }

  std::string version() const {
    return fmt::format(
        "about: /dev/nbd{}\nnbdkit-attach: {}\nbuild: {}\nprogram: {}\ntime: "
        "{:%Y-%m-%dT%H:%M:%SZ}\nuser: {}\n{}",
        index_, NBDKIT_VERSION, NBDKIT_BUILD_ID, link("/proc/self/exe"),
        fmt::gmtime(std::chrono::system_clock::now()), ::geteuid(), show_file("/proc/uptime"));
  }

  static std::string link(const char* path) {
    std::array<char, 4096> target;
    ssize_t length = ::readlink(path, target.data(), target.size());
    return std::string(target.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
  }

  std::string status() const {
    Result<AttachmentStatus> status = find_attachment(Sysfs(), index_, place_);
    if (!status.ok()) return status.error().message() + "\n";
    return to_json(status.value()).dump(2) + "\n";
  }

  std::string log() const {
    if (!folder_.ok()) return folder_.error().message() + "\n";
    Result<ControlClient> keeper = ControlClient::connect(folder_.value().socket_path(index_));
    if (!keeper.ok()) return fmt::format("there is no keeper: {}\n", keeper.error().message());
    Result<Json> answer = keeper.value().call("log", Json(), ControlClient::kAnswerMax);
    if (!answer.ok()) return answer.error().message() + "\n";
    const Json* lines = answer.value().find("lines");
    const Json::Array* list = lines != nullptr ? lines->as_array() : nullptr;
    if (list == nullptr || list->empty()) return "it has said nothing\n";
    std::string out;
    for (const Json& line : *list) {
      if (line.as_string() != nullptr) out += *line.as_string() + "\n";
    }
    return out;
  }

  std::string state_file() const {
    if (!folder_.ok()) return folder_.error().message() + "\n";
    return state_text_.empty() ? "there is none\n" : state_text_;
  }

  std::string arguments() const {
    if (!options_) return "not known\n";
    const AttachOptions& options = *options_;
    std::string out = fmt::format("server: {}\nfolder: {}\nuser: {}\ngroup: {}\n", options.server,
                                  options.folder, options.user, options.group);
    auto list = [&](std::string_view title, const std::vector<std::string>& words) {
      for (const std::string& word : words) out += fmt::format("{}: \"{}\"\n", title, word);
    };
    list("filter", options.filters);
    list("server's option", options.server_options);
    list("plugin", options.plugin);
    return out;
  }

  std::string uses() const {
    Result<NbdDevice> device = Sysfs().device(index_);
    if (!device.ok()) return device.error().message() + "\n";
    std::string out;
    for (const DeviceUse& use : find_uses(KernelFiles(), device.value())) out += use.text + "\n";
    const std::string node = device.value().node();
    out += show_lines("/proc/self/mountinfo", node) + show_lines("/proc/swaps", node);
    return out.empty() ? "nothing uses it\n" : out;
  }

  // To look for a driver that is not there would have the kernel load it.
  std::string driver() const {
    if (!Sysfs().module_loaded()) return "it is not loaded\n";
    return Driver().show(index_);
  }

  std::string device() const {
    const std::string path = fmt::format("/sys/block/nbd{}", index_);
    return show_folder(path) + show_folder(path + "/queue");
  }

  static std::string module() {
    return show_file("/sys/module/nbd/srcversion") + show_file("/sys/module/nbd/refcnt") +
           show_folder("/sys/module/nbd/parameters") + show_file("/proc/sys/kernel/tainted");
  }

  static std::string kernel() {
    return show_file("/proc/version") + show_file("/proc/loadavg") + show_file("/proc/meminfo") +
           show_file("/proc/pressure/io") + show_file("/proc/pressure/memory");
  }

  static std::string process(std::optional<std::uint64_t> pid, std::string_view who) {
    if (!pid) return fmt::format("{} does not run, or is not known\n", who);
    return show_process(static_cast<pid_t>(*pid));
  }

  const std::uint32_t index_;
  const std::string place_;
  Result<RunFolder> folder_;
  std::string state_text_;
  Json state_;  // of this boot; null: none
  std::optional<std::uint64_t> keeper_;
  std::optional<std::uint64_t> server_;
  std::optional<AttachOptions> options_;
  std::vector<std::string> secrets_;
};

}  // namespace

std::string diagnose(std::uint32_t index, const std::string& run_folder) {
  return Diagnosis(index, run_folder).write();
}

}  // namespace nbdkit
