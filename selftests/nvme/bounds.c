// SPDX-License-Identifier: GPL-2.0
/*
 * A program that submits commands and does nothing about them holds nobody up
 * for long: who freezes the queue of the namespace waits for the controller and
 * no more than 100 ms for the program.  The clock of a command runs for the
 * controller only, and nobody without CAP_SYS_ADMIN sets it as they like.  An
 * Abort ends the command that it was sent for, or none.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "region.h"
#include "watch.h"

#define LEN		4096
#define ROUNDS		20
#define BOUND		100	/* ms, as documented */
#define NOISE		60	/* ms, of an emulated machine */

#define ADMIN_ABORT	0x08
/* of a command that was not sent, because the controller was not ready */
#define SC_HOST_PATH	0x370
#define FEATURE_INJECT	0xc0

/* rules of the test bed's devices, feature C0h */
struct rule {
	__le32 nsid;
	__u8 admin;
	__u8 opcode;
	__le16 status;
	__le32 delay_ms;
	__le32 count;
};

/**
 * struct user - who sends reads through a ring, and how
 * @ring: the ring
 * @fd: the node
 * @region: the memory is mapped as, or 0
 * @mem: the memory
 */
struct user {
	struct nt_ring ring;
	int fd;
	__u32 region;
	unsigned char *mem;
};

static const char *only = "";
static struct nt_ns *ns;
static char queue[PATH_MAX];	/* of the block device, in sysfs */
static struct user one, two;

static void write_queue(const char *name, const char *value)
{
	char path[PATH_MAX + 32];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", queue, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		nt_fail("cannot write %s to %s: %m", value, path);
	close(fd);
}

static void find_queue(void)
{
	const char *name = strrchr(ns->dev.path, '/') + 3;

	snprintf(queue, sizeof(queue), "/sys/block/nvme%s/queue", name);
	if (access(queue, F_OK))
		nt_die("%s: %m", queue);
}

static unsigned int now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Reads take that long, and an Abort that long; 0: no more. */
static void delay(unsigned int reads, unsigned int aborts)
{
	static struct rule rules[256];
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.addr = (uintptr_t)rules,
		.data_len = sizeof(rules),
		.cdw10 = FEATURE_INJECT,
	};

	int status, tries = 0;

	memset(rules, 0, sizeof(rules));
	rules[0].nsid = htole32(ns->nsid);
	rules[0].opcode = NVME_CMD_READ;
	rules[0].delay_ms = htole32(reads);
	rules[1].admin = 1;
	rules[1].opcode = ADMIN_ABORT;
	rules[1].delay_ms = htole32(aborts);
	/* the case before may have had it reset */
	do {
		status = nt_dev_ioctl(ns->ctrl.fd, NVME_IOCTL_ADMIN64_CMD,
				      &cmd, NULL);
		if (status == SC_HOST_PATH)
			usleep(100000);
	} while (status == SC_HOST_PATH && ++tries < 200);
	nt_status(status, NVME_SC_SUCCESS);
}

static void user_open(struct user *u, int fd, unsigned int setup, bool region)
{
	u->fd = fd < 0 ? open(ns->dev.path, O_RDWR | O_CLOEXEC) : fd;
	if (u->fd < 0)
		nt_fail("cannot open %s: %m", ns->dev.path);
	nt_ring_open(&u->ring, 8, setup);
	u->mem = nt_alloc(LEN, 0);
	u->region = 0;
	if (region)
		nt_status(nt_map(u->fd, 0, u->mem, LEN, &u->region), 0);
}

static void user_close(struct user *u)
{
	nt_ring_close(&u->ring);
	close(u->fd);
}

static void fill(struct user *u, struct nvme_uring_cmd *cmd, __u32 timeout_ms)
{
	nt_place_cmd(ns, 0, false, LEN, cmd);
	cmd->addr = u->region ? 0 : (uintptr_t)u->mem;
	cmd->data_len = LEN;
	cmd->timeout_ms = timeout_ms;
}

/* Submit a read and do not poll, as liburing would. */
static void send_read(struct user *u, __u32 timeout_ms)
{
	struct io_uring *r = &u->ring.ring;
	struct nvme_uring_cmd cmd;

	fill(u, &cmd, timeout_ms);
	if (u->region)
		nt_region_put(&u->ring, u->fd, NVME_NG_URING_CMD_IO, &cmd,
			      u->region, 0);
	else
		nt_ring_put(&u->ring, u->fd, NVME_URING_CMD_IO,
			    NT_UNREGISTERED, &cmd);
	__atomic_store_n(r->sq.ktail, r->sq.sqe_tail, __ATOMIC_RELEASE);
	r->sq.sqe_head = r->sq.sqe_tail;
	nt_eq(io_uring_enter(r->ring_fd, 1, 0, 0, NULL), 1);
}

static int reap(struct user *u, unsigned int ms)
{
	unsigned int name;
	int res;

	if (!nt_ring_reap(&u->ring, ms, &name, &res))
		nt_fail("no completion within %u ms", ms);
	return res < 0 ? res : res & NVME_SC_MASK;
}

/* Freeze the queue; how long that took in ms. */
static unsigned int freeze(void)
{
	static bool on;
	unsigned int start = now_ms();

	on = !on;
	write_queue("scheduler", on ? "mq-deadline" : "none");
	return now_ms() - start;
}

static void send_and_stop(void *arg)
{
	send_read(arg, 0);
	raise(SIGSTOP);
	_exit(0);
}

/* A process that submits, and is stopped before it polls. */
static pid_t start_stopped(struct user *u)
{
	pid_t pid = nt_fork(send_and_stop, u);
	int status;

	nt_eq(waitpid(pid, &status, WUNTRACED), pid);
	nt_eq(WIFSTOPPED(status), true);
	/* it was sent in there */
	u->ring.flying++;
	u->ring.next++;
	return pid;
}

static void end(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

static void poll_for_ever(void *arg)
{
	struct user *u = arg;

	/* often enough, and leave time to others */
	for (;; usleep(5000))
		io_uring_enter(u->ring.ring.ring_fd, 0, 0,
			       IORING_ENTER_GETEVENTS, NULL);
}

static void submits_only(void)
{
	send_read(&one, 0);
}

static pid_t stopped, polling;

static void is_stopped(void)
{
	stopped = start_stopped(&one);
}

/* One that polls what is another's, which nobody else polls for. */
static void other_polls(void)
{
	stopped = start_stopped(&two);
	usleep(3 * BOUND * 1000);
	send_read(&one, 0);
	polling = nt_fork(poll_for_ever, &two);
	usleep(20000);
}

/**
 * struct frozen - a freeze that finds a command in flight
 * @start: sends it
 * @region: on a ring queue, or else by a request
 */
struct frozen {
	void (*start)(void);
	bool region;
};

/* The machine is shared: one of some rounds shows what the bound is. */
static void run_freeze(void *arg)
{
	const struct frozen *f = arg;
	unsigned int i, idle, ms = 0;
	bool within = false;

	for (i = 0; i < ROUNDS && !within && ms < 20 * BOUND; i++) {
		user_open(&one, -1, IORING_SETUP_IOPOLL, f->region);
		/* through one file: one queue for both rings */
		user_open(&two, dup(one.fd), IORING_SETUP_IOPOLL, f->region);
		idle = freeze();
		stopped = 0;
		polling = 0;
		f->start();
		ms = freeze();
		within = ms <= idle + BOUND + NOISE;
		if (polling)
			end(polling);
		if (stopped)
			end(stopped);
		user_close(&two);
		user_close(&one);
		nt_note("%u ms, %u ms without a command", ms, idle);
	}
	nt_eq(within, true);
}

/* What has completed is not aborted, whoever polls, and however long. */
static void run_clock(void *arg)
{
	(void)arg;
	nt_log_mark();
	user_open(&one, -1, IORING_SETUP_IOPOLL, true);
	user_open(&two, dup(one.fd), IORING_SETUP_IOPOLL, true);
	stopped = start_stopped(&two);
	usleep(1500000);
	send_read(&one, 1);
	polling = nt_fork(poll_for_ever, &two);
	usleep(4500000);
	end(polling);
	nt_status(reap(&one, 10000), NVME_SC_SUCCESS);
	end(stopped);
	user_close(&two);
	user_close(&one);
	nt_log_quiet();
}

/* A command has completed when its Abort comes, and the next one is there. */
static void run_late(void *arg)
{
	(void)arg;
	user_open(&one, -1, IORING_SETUP_IOPOLL, true);
	/* Abort is sent after 2 to 3 s, and a reset would be after 4 */
	delay(3500, 3000);
	send_read(&one, 2000);
	nt_status(reap(&one, 10000), NVME_SC_SUCCESS);
	delay(5000, 0);
	send_read(&one, 0);
	nt_status(reap(&one, 20000), NVME_SC_SUCCESS);
	delay(0, 0);
	user_close(&one);
}

/* Timeouts */

/**
 * struct timing - a command with a timeout that the controller is late with
 * @root: with CAP_SYS_ADMIN
 * @ms: timeout
 * @def: that of the queue
 * @delay: of the controller
 * @ok: the command completes
 * @way: how it is sent
 */
struct timing {
	bool root;
	__u32 ms;
	unsigned int def, delay;
	bool ok;
	enum { BY_IOCTL, BY_IRQ, BY_POLL, BY_QUEUE, WAYS } way;
};

static const char *const ways[] = {
	"ioctl", "ring", "polled ring", "ring queue",
};

static void send_timed(void *arg)
{
	const struct timing *t = arg;
	unsigned int start = now_ms(), took;
	struct nvme_uring_cmd cmd;
	uid_t uid = NT_TESTER;
	int status;

	if (!t->root && (setgroups(0, NULL) || setresgid(uid, uid, uid) ||
			 setresuid(uid, uid, uid)))
		nt_fail("cannot become uid %u: %m", uid);
	switch (t->way) {
	case BY_IOCTL:
		one.region = 0;
		one.mem = nt_alloc(LEN, 0);
		fill(&one, &cmd, t->ms);
		status = nt_dev_ioctl(ns->dev.fd, NVME_IOCTL_IO64_CMD, &cmd,
				      NULL);
		break;
	default:
		user_open(&one, one.fd, t->way == BY_IRQ ? 0 :
			  IORING_SETUP_IOPOLL, t->way == BY_QUEUE);
		send_read(&one, t->ms);
		status = reap(&one, 120000);
	}
	took = now_ms() - start;
	if (t->ok)
		nt_status(status, NVME_SC_SUCCESS);
	else if (!status || took >= t->delay)
		nt_fail("status %d after %u ms", status, took);
}

static void run_timeout(void *arg)
{
	struct timing t = *(struct timing *)arg;
	pid_t pid[WAYS];
	int status, bad = 0;
	char ms[16];

	snprintf(ms, sizeof(ms), "%u", t.def);
	write_queue("io_timeout", ms);
	delay(t.delay, 0);
	for (t.way = 0; t.way < WAYS; t.way++) {
		one.fd = open(ns->dev.path, O_RDWR | O_CLOEXEC);
		pid[t.way] = nt_fork(send_timed, &t);
		close(one.fd);
	}
	for (t.way = 0; t.way < WAYS; t.way++) {
		nt_eq(waitpid(pid[t.way], &status, 0), pid[t.way]);
		if (status)
			nt_note("by %s", ways[t.way]);
		bad |= status;
	}
	delay(0, 0);
	write_queue("io_timeout", "30000");
	nt_eq(bad, 0);
}

static bool fits(const struct nt_ns *n)
{
	return n->testbed && !strcmp(n->dev.serial, "NVMENG-B") &&
	       n->csi == NVME_CSI_NVM && n->lba_size == 512 && !n->ms;
}

static bool option(const char *arg)
{
	if (strncmp(arg, "--only=", 7))
		return false;
	only = arg + 7;
	return true;
}

/**
 * struct test - a case
 * @name: of it
 * @run: runs it
 * @arg: for @run
 */
struct test {
	const char *name;
	void (*run)(void *arg);
	const void *arg;
};

static const struct test tests[] = {
	{ "freeze, submits only, polled request", run_freeze,
	  &(const struct frozen){ submits_only, false } },
	{ "freeze, submits only, ring queue", run_freeze,
	  &(const struct frozen){ submits_only, true } },
	{ "freeze, is stopped, polled request", run_freeze,
	  &(const struct frozen){ is_stopped, false } },
	{ "freeze, is stopped, ring queue", run_freeze,
	  &(const struct frozen){ is_stopped, true } },
	{ "freeze, another ring polls, polled request", run_freeze,
	  &(const struct frozen){ other_polls, false } },
	{ "freeze, another ring polls, ring queue", run_freeze,
	  &(const struct frozen){ other_polls, true } },
	{ "clock", run_clock, NULL },
	{ "late Abort", run_late, NULL },
	{ "timeout below the default, user", run_timeout,
	  &(const struct timing){ false, 1, 3000, 1500, true, 0 } },
	{ "timeout below the default, root", run_timeout,
	  &(const struct timing){ true, 1, 30000, 15000, false, 0 } },
	{ "timeout far above the default, user", run_timeout,
	  &(const struct timing){ false, ~0U, 500, 60000, false, 0 } },
	{ "timeout far above the default, root", run_timeout,
	  &(const struct timing){ true, ~0U, 500, 4000, true, 0 } },
};

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test that nobody holds others up beyond a bound.",
		.wants = "NVM (512-byte blocks) test bed",
		.fits = fits,
		.usage = "  --only=WORD  cases with WORD in their names\n",
		.option = option,
	};
	size_t i, n, nr = 0;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	find_queue();
	for (i = 0; i < ARRAY_SIZE(tests); i++)
		nr += !!strstr(tests[i].name, only);
	nt_plan(nr);
	for (i = 0; i < ARRAY_SIZE(tests); i++)
		if (strstr(tests[i].name, only))
			nt_test(tests[i].run, (void *)tests[i].arg, "%s %s",
				ns->name, tests[i].name);
	write_queue("scheduler", "none");
	return nt_end();
}
