// SPDX-License-Identifier: GPL-2.0
/*
 * Processes, rings and controllers come to an end while commands of every form
 * are in flight, 128 of each: every command is reported once, no request and no
 * page is lost, nothing hangs, and the node works again.
 *
 * The controller is one of its own, NVMENG-X, which is plugged into an empty
 * slot of the test bed, and whose commands are delayed until the end comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "region.h"
#include "watch.h"

#define SERIAL		"NVMENG-X"
#define SLOT_NAME	"port-X"
#define MONITOR		"/dev/virtio-ports/qmp"

#define DEPTH		128
#define ADMIN_DEPTH	8	/* of 30 that the queue has for everybody */
#define ARRAY_DEPTH	32	/* nothing else takes what has no slot */
#define BUF		(3 * NT_PAGE)
#define PATIENCE	60000	/* ms */

/* one processor's queue takes all commands of the rings that do not poll */
#define QUEUE_DEPTH	"2048"
/* the driver aborts so many commands at a time */
#define ABORTS		4
/* until each form had its turn */
#define TIMEOUT_ROUNDS	6

/* status of a command that was aborted, or whose queue was deleted */
#define SC_ABORTED	0x007
#define SC_SQ_DELETED	0x008
/* of one that the driver did not send, because the controller was not ready */
#define SC_HOST_PATH	0x370

/* of the test bed: a rule for commands with that opcode */
#define FEATURE_INJECT	0xc0

struct rule {
	__le32 nsid;
	__u8 admin;
	__u8 opcode;
	__le16 status;
	__le32 delay;
	__le32 count;
};

struct load;

/* an element of the array of a vectored command */
union piece {
	struct iovec iov;
	struct nvme_ng_segment seg;
};

/**
 * struct form - a form of commands
 * @name: for messages
 * @op: command of the ring entry
 * @depth: commands in flight
 * @setup: IORING_SETUP_* flags
 * @prepare: called once the ring is open, or NULL
 */
struct form {
	const char *name;
	__u32 op;
	unsigned int depth;
	unsigned int setup;
	void (*prepare)(struct load *l);
};

/**
 * struct load - commands of a form in flight
 * @form: the form
 * @open: the ring is
 * @ring: it has them
 * @fd: the node, opened for this load alone: a ring may own a queue of it
 * @buf: registered buffer, or NT_UNREGISTERED
 * @region: what the buffers are mapped as, or 0
 * @mem: buffers
 * @pieces: for vectored commands
 * @cmds: for commands in arrays, of one each
 * @results: where those end
 * @status: how they did, by their names
 * @sent: commands sent
 * @flying: in flight when the end came
 * @ok: completed with success
 * @aborted: aborted at the request of the driver
 * @cancelled: ended with the queue or by the driver
 * @gone: found no controller any more
 */
struct load {
	const struct form *form;
	bool open;
	struct nt_ring ring;
	int fd;
	int buf;
	__u32 region;
	unsigned char *mem;
	union piece pieces[DEPTH][2];
	struct nvme_ng_array_cmd cmds[DEPTH];
	struct nt_results results;
	int status[DEPTH];
	unsigned long sent, flying, ok, aborted, cancelled, gone;
};

/**
 * struct ending - how it ends
 * @name: of the case
 * @rounds: how many times
 * @delay: ms that commands take until it comes
 * @run: makes it come, in a process of its own; or NULL: what was sent does
 * @victim: in the process that has the rings, which ends then; or NULL
 * @kill: that process is killed
 * @timeout: some commands have one, which comes before their completion
 * @mute: the controller does not answer an Abort
 * @cancels: commands in flight are cancelled, rather than waited for
 */
struct ending {
	const char *name;
	unsigned int rounds;
	unsigned int delay;
	void (*run)(void *arg);
	void (*victim)(void);
	bool kill, timeout, mute, cancels;
};

static void register_mem(struct load *l);
static void map_mem(struct load *l);
static void map_array(struct load *l);

#define IOPOLL		IORING_SETUP_IOPOLL
#define SQPOLL		IORING_SETUP_SQPOLL
#define DEFER		(IORING_SETUP_SINGLE_ISSUER | \
			 IORING_SETUP_DEFER_TASKRUN)

static const struct form forms[] = {
	{ "irq io", NVME_URING_CMD_IO, DEPTH, 0, NULL },
	{ "irq io fixed", NVME_URING_CMD_IO, DEPTH, 0, register_mem },
	{ "irq vec", NVME_URING_CMD_IO_VEC, DEPTH, 0, NULL },
	{ "irq vec fixed", NVME_URING_CMD_IO_VEC, DEPTH, 0, register_mem },
	{ "irq region", NVME_NG_URING_CMD_IO, DEPTH, 0, map_mem },
	{ "irq region vec", NVME_NG_URING_CMD_IO_VEC, DEPTH, 0, map_mem },
	{ "iopoll io", NVME_URING_CMD_IO, DEPTH, IOPOLL, NULL },
	{ "iopoll io fixed", NVME_URING_CMD_IO, DEPTH, IOPOLL, register_mem },
	{ "iopoll vec", NVME_URING_CMD_IO_VEC, DEPTH, IOPOLL, NULL },
	{ "iopoll vec fixed", NVME_URING_CMD_IO_VEC, DEPTH, IOPOLL,
	  register_mem },
	{ "iopoll region", NVME_NG_URING_CMD_IO, DEPTH, IOPOLL, map_mem },
	{ "iopoll region vec", NVME_NG_URING_CMD_IO_VEC, DEPTH, IOPOLL,
	  map_mem },
	{ "sqpoll io", NVME_URING_CMD_IO, DEPTH, SQPOLL, NULL },
	{ "sqpoll io fixed", NVME_URING_CMD_IO, DEPTH, SQPOLL, register_mem },
	{ "sqpoll vec", NVME_URING_CMD_IO_VEC, DEPTH, SQPOLL, NULL },
	{ "sqpoll vec fixed", NVME_URING_CMD_IO_VEC, DEPTH, SQPOLL,
	  register_mem },
	{ "sqpoll region", NVME_NG_URING_CMD_IO, DEPTH, SQPOLL, map_mem },
	{ "sqpoll region vec", NVME_NG_URING_CMD_IO_VEC, DEPTH, SQPOLL,
	  map_mem },
	{ "iopoll defer io", NVME_URING_CMD_IO, DEPTH, IOPOLL | DEFER, NULL },
	{ "iopoll defer region", NVME_NG_URING_CMD_IO, DEPTH, IOPOLL | DEFER,
	  map_mem },
	{ "iopoll sqpoll io", NVME_URING_CMD_IO, DEPTH, IOPOLL | SQPOLL, NULL },
	{ "iopoll sqpoll region", NVME_NG_URING_CMD_IO, DEPTH, IOPOLL | SQPOLL,
	  map_mem },
	{ "irq array", NVME_NG_URING_CMD_ARRAY, ARRAY_DEPTH, 0, map_array },
	{ "iopoll array", NVME_NG_URING_CMD_ARRAY, ARRAY_DEPTH, IOPOLL,
	  map_array },
	{ "irq admin", NVME_URING_CMD_ADMIN, ADMIN_DEPTH, 0, NULL },
	{ "irq admin vec", NVME_URING_CMD_ADMIN_VEC, ADMIN_DEPTH, 0, NULL },
};

static struct load loads[ARRAY_SIZE(forms)];
static size_t nr_loads;		/* of the forms that take part */
static struct nt_ns x;		/* the only namespace of the controller */
static char pci[32], port[PATH_MAX];	/* its address; the slot in sysfs */
static unsigned int plugs;	/* times that there was a new one */
static char answer[512];	/* of the monitor, the last one */
static pid_t runner;		/* of an ending */
static unsigned int times = 1;
static const char *only = "", *only_form = "";

/* The controller */

static int monitor(const char *command, const char *arguments)
{
	char line[512];
	FILE *f;

	snprintf(line, sizeof(line), "qmp %s '%s'", command, arguments);
	f = popen(line, "r");
	if (!f || !fgets(answer, sizeof(answer), f))
		answer[0] = '\0';
	return f ? pclose(f) : -1;
}

static void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		nt_fail("cannot write to %s: %m", path);
	close(fd);
}

static bool in_slot(void)
{
	char path[600];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", pci);
	return *pci && !access(path, F_OK);
}

/*
 * Find the controller and its namespace, once both are there.  The number in
 * the name of the node grows while an old one is open.
 */
static bool find(void)
{
	char path[600], serial[64], state[16] = "";
	bool found = false;
	glob_t g;
	size_t i;
	FILE *f;

	if (glob("/sys/class/nvme-generic/ng*", 0, NULL, &g))
		return false;
	for (i = 0; i < g.gl_pathc && !found; i++) {
		if (!nt_serial(g.gl_pathv[i], serial, sizeof(serial)) ||
		    strcmp(serial, SERIAL))
			continue;
		snprintf(path, sizeof(path), "%s/device/state",
			 g.gl_pathv[i]);
		f = fopen(path, "r");
		found = f && fscanf(f, "%15s", state) == 1 &&
			!strcmp(state, "live");
		if (f)
			fclose(f);
		snprintf(path, sizeof(path), "/dev/%s",
			 strrchr(g.gl_pathv[i], '/') + 1);
	}
	globfree(&g);
	if (!found || access(path, F_OK))
		return false;

	nt_open_ns(&x, path);
	snprintf(path, sizeof(path), "%s/device", x.ctrl.sysfs);
	if (!realpath(path, port))
		nt_die("%s: %m", path);
	snprintf(pci, sizeof(pci), "%s", strrchr(port, '/') + 1);
	*strrchr(port, '/') = '\0';
	return true;
}

static void until(bool (*is)(void), bool want, const char *what)
{
	time_t end = time(NULL) + PATIENCE / 1000;

	while (time(NULL) < end) {
		if (is() == want)
			return;
		usleep(50000);
	}
	nt_fail("after %u s: still %s; the monitor's last word: %s",
		PATIENCE / 1000, what, answer);
}

/* With SGLs and without in turn. */
static bool device_add(void)
{
	char arguments[256];

	snprintf(arguments, sizeof(arguments),
		 "{\"driver\": \"nvme\", \"id\": \"X\", \"bus\": \"%s\", \"serial\": \"%s\", \"drive\": \"X%u\", \"x-testctl\": true, \"x-dma-bound\": true, \"sgls\": %s}",
		 SLOT_NAME, SERIAL, plugs, plugs % 2 ? "true" : "false");
	return !monitor("device_add", arguments);
}

/* With a drive of its own: one that was gone by surprise may keep the other. */
static void plug(void)
{
	char arguments[256];

	snprintf(arguments, sizeof(arguments),
		 "{\"driver\": \"null-co\", \"node-name\": \"X%u\", \"size\": 67108864, \"read-zeroes\": true}",
		 ++plugs);
	if (monitor("blockdev-add", arguments))
		nt_fail("no drive: %s", answer);
	write_to("/sys/module/nvme/parameters/io_queue_depth", QUEUE_DEPTH);
	until(device_add, true, "no controller in the slot");
}

/* Delay commands, for ms; 0: no more. */
static void inject(unsigned int delay, bool mute)
{
	struct rule rules[NT_PAGE / sizeof(struct rule)] = {
		{ .opcode = NVME_CMD_READ, .delay = delay },
		{ .opcode = NVME_CMD_WRITE, .delay = delay },
		{ .admin = 1, .opcode = NVME_ADMIN_GET_LOG, .delay = delay },
		{ .admin = 1, .opcode = 0x08, .delay = mute ? PATIENCE : 0 },
	};
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.addr = (uintptr_t)rules,
		.data_len = sizeof(rules),
		.cdw10 = FEATURE_INJECT,
	};

	nt_status(nt_dev_ioctl(x.ctrl.fd, NVME_IOCTL_ADMIN64_CMD, &cmd, NULL),
		  NVME_SC_SUCCESS);
}

/* The load */

static void register_mem(struct load *l)
{
	struct iovec iov = { l->mem, DEPTH * BUF };

	nt_eq(io_uring_register_buffers(&l->ring.ring, &iov, 1), 0);
	l->buf = 0;
}

static void map_mem(struct load *l)
{
	nt_status(nt_map(l->fd, 0, l->mem, DEPTH * BUF, &l->region), 0);
}

static void map_array(struct load *l)
{
	map_mem(l);
	nt_results_make(l->fd, DEPTH, &l->results);
}

static bool is_array(const struct form *f)
{
	return f->op == NVME_NG_URING_CMD_ARRAY;
}

static bool is_admin(const struct form *f)
{
	return f->op == NVME_URING_CMD_ADMIN ||
	       f->op == NVME_URING_CMD_ADMIN_VEC;
}

/* Where the data of the command is. */
static void set_data(struct load *l, unsigned int i, unsigned char *at,
		     __u32 len, struct nvme_uring_cmd *cmd)
{
	union piece *p = l->pieces[i];
	__u32 first;

	switch (l->form->op) {
	case NVME_URING_CMD_IO_VEC:
	case NVME_URING_CMD_ADMIN_VEC:
		p[0].iov = (struct iovec){ at, len / 2 };
		p[1].iov = (struct iovec){ at + len / 2, len / 2 };
		break;
	case NVME_NG_URING_CMD_IO_VEC:
		/* PRPs go on at the start of a page; none may be left */
		first = NT_PAGE - (at - l->mem) % NT_PAGE;
		p[0].seg = (struct nvme_ng_segment){ l->region, first,
						     at - l->mem };
		p[1].seg = (struct nvme_ng_segment){ l->region, len - first,
						     at - l->mem + first };
		break;
	default:
		cmd->addr = (uintptr_t)at - (l->region ? (uintptr_t)l->mem : 0);
		cmd->data_len = len;
		return;
	}
	cmd->addr = (uintptr_t)p;
	cmd->data_len = 2;
}

/* Within a page, or in two pieces of three pages. */
static void send_one(struct load *l, unsigned int timeout)
{
	unsigned int i = l->sent++ % DEPTH;
	unsigned char *at = l->mem + i * BUF + (i & 1 ? 512 : 0);
	__u32 len = i & 1 ? 2 * NT_PAGE : NT_PAGE;
	struct nvme_uring_cmd cmd = {
		.opcode = i & 2 ? NVME_CMD_WRITE : NVME_CMD_READ,
		.nsid = x.nsid,
		.cdw3 = len,
		.cdw10 = i,
		.cdw12 = len / x.lba_size - 1,
		.timeout_ms = timeout,
	};

	if (is_admin(l->form)) {
		cmd.opcode = NVME_ADMIN_GET_LOG;
		cmd.nsid = 0xffffffff;
		cmd.cdw3 = 0;
		/* SMART / Health Information */
		cmd.cdw10 = 0x02 | (len / 4 - 1) << 16;
		cmd.cdw12 = 0;
	}
	set_data(l, i, at, len, &cmd);
	if (is_array(l->form)) {
		memset(&l->cmds[i], 0, sizeof(l->cmds[i]));
		memcpy(&l->cmds[i].cmd, &cmd, sizeof(cmd));
		l->cmds[i].cmd.region = l->region;
		l->cmds[i].tag = l->ring.next;
		nt_array_put(&l->ring, l->fd, &l->cmds[i], 1, l->results.ring);
	} else if (l->region) {
		nt_region_put(&l->ring, l->fd, l->form->op, &cmd,
			      l->form->op == NVME_NG_URING_CMD_IO ?
			      l->region : 0, 0);
	} else {
		nt_ring_put(&l->ring, l->fd, l->form->op, l->buf, &cmd);
	}
}

static void top_up(struct load *l)
{
	if (l->gone || l->ring.flying == l->form->depth)
		return;
	while (l->ring.flying < l->form->depth)
		send_one(l, 0);
	nt_ring_submit(&l->ring);
}

static void count(struct load *l, int res)
{
	if (!res)
		l->ok++;
	else if (res > 0 && (res & NVME_SC_MASK) == SC_ABORTED)
		l->aborted++;
	else if (res == -EINTR || (res > 0 &&
				   (res & NVME_SC_MASK) == SC_SQ_DELETED))
		l->cancelled++;
	else if (res == -ENODEV || res == -EIO || (res > 0 &&
						   (res & NVME_SC_MASK) == SC_HOST_PATH))
		l->gone++;
	else
		nt_fail("%s: a command completed with %d", l->form->name, res);
}

/* How the command of an array has ended, if that took it. */
static int result_of(struct load *l, unsigned int name, int res)
{
	__u64 tag;
	int got;

	if (res != 1)
		return res;
	while (nt_results_next(&l->results, &tag, &got))
		l->status[tag % DEPTH] = got;
	got = l->status[name % DEPTH];
	/* posted before the array completes, and not twice */
	l->status[name % DEPTH] = -EBADMSG;
	return got;
}

/* Completions that are there. */
static void absorb(struct load *l)
{
	unsigned int name;
	int res;

	while (nt_ring_reap(&l->ring, l->ring.polled, &name, &res)) {
		if (is_array(l->form))
			res = result_of(l, name, res);
		/* no room, as during a reset; or while the format is not known */
		if (is_array(l->form) &&
		    (res == -EAGAIN || res == -EOPNOTSUPP))
			l->sent--;
		else
			count(l, res);
	}
}

/*
 * All loads at once: as long as nobody polls for what a polled ring has in
 * flight, a reset does not end, and the others wait for that.
 */
static void drain(void)
{
	time_t end = time(NULL) + PATIENCE / 1000;
	struct load *l, *late;

	do {
		for (late = NULL, l = loads; l < loads + nr_loads; l++) {
			absorb(l);
			if (l->ring.flying)
				late = l;
		}
	} while (late && time(NULL) < end);
	if (late)
		nt_fail("%s: %u commands without a completion after %u s",
			late->form->name, late->ring.flying, PATIENCE / 1000);
}

static void close_load(struct load *l)
{
	if (!l->open)
		return;
	nt_ring_close(&l->ring);
	close(l->fd);
	munmap(l->mem, DEPTH * BUF);
	nt_results_free(&l->results);
	l->open = false;
}

static void close_rings(void)
{
	struct load *l;

	for (l = loads; l < loads + nr_loads; l++)
		close_load(l);
}

/*
 * The driver aborts a few commands at a time: one of some forms, unless it is
 * to find that this does not help.
 */
static bool times_out(const struct load *l, const struct ending *e,
		      unsigned int round, unsigned int i)
{
	if (!e->timeout || is_admin(l->form))
		return false;
	return e->mute ||
	       (i == 0 && (l - loads) / ABORTS == round % TIMEOUT_ROUNDS);
}

static void start(struct load *l, const struct ending *e, unsigned int round)
{
	const struct form *form = l->form;
	unsigned int i;

	memset(l, 0, sizeof(*l));
	l->form = form;
	l->buf = NT_UNREGISTERED;
	l->mem = mmap(NULL, DEPTH * BUF, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (l->mem == MAP_FAILED)
		nt_die("no memory");
	/* that of a controller cannot be opened while it is being reset */
	for (i = 0; i < 6000; i++) {
		l->fd = open(is_admin(form) ? x.ctrl.path : x.dev.path,
			     O_RDWR | O_CLOEXEC);
		if (l->fd >= 0 || errno != EAGAIN)
			break;
		usleep(10000);
	}
	if (l->fd < 0)
		nt_fail("cannot open the node: %m");
	nt_ring_open(&l->ring, 2 * DEPTH, form->setup);
	l->open = true;
	for (i = 0; i < DEPTH; i++)
		l->status[i] = -EBADMSG;
	if (form->prepare)
		form->prepare(l);
	for (i = 0; i < form->depth; i++)
		send_one(l, times_out(l, e, round, i) ? 1000 : 0);
	nt_ring_submit(&l->ring);
}

static bool start_delayed(const struct ending *e, unsigned int round,
			  unsigned int delay)
{
	bool all = true;
	struct load *l;

	inject(delay, e->mute);
	for (l = loads; l < loads + nr_loads; l++)
		start(l, e, round);
	usleep(100000);
	for (l = loads; l < loads + nr_loads; l++) {
		/* a ring's own thread may not have been there yet */
		while (io_uring_sq_ready(&l->ring.ring))
			usleep(1000);
		absorb(l);
		l->flying = l->ring.flying;
		all &= l->flying == l->form->depth;
	}
	return all;
}

/* All commands of all forms are in flight, or it begins anew. */
static void start_all(const struct ending *e, unsigned int round)
{
	unsigned int delay;

	for (delay = e->delay; !start_delayed(e, round, delay); delay *= 2) {
		if (delay > 4 * e->delay)
			nt_fail("too slow: commands complete before all are in flight");
		inject(0, false);
		drain();
		close_rings();
	}
}

static void finish(const struct ending *e, unsigned int round, struct load *l)
{
	nt_ring_quiet(&l->ring);
	nt_eq(l->ok + l->aborted + l->cancelled + l->gone, l->sent);
	if (!e->mute && l->aborted != times_out(l, e, round, 0))
		nt_fail("%s: %lu commands were aborted", l->form->name,
			l->aborted);
	if (e->cancels && l->cancelled < l->flying / 2)
		nt_fail("%s: %lu commands were in flight, but %lu were cancelled",
			l->form->name, l->flying, l->cancelled);
	/* the driver does not wait for the admin queue when it is unbound */
	if (!e->cancels && l->cancelled && !(e->run && is_admin(l->form)))
		nt_fail("%s: %lu commands were cancelled", l->form->name,
			l->cancelled);
	close_load(l);
}

/* The node does what it is there for. */
static void works(void)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_READ,
		.addr = (uintptr_t)nt_alloc(NT_PAGE, 0),
		.data_len = NT_PAGE,
		.cdw12 = NT_PAGE / x.lba_size - 1,
	};

	nt_status(nt_io(&x, NT_URING, &cmd, NULL), NVME_SC_SUCCESS);
	nt_status(nt_io(&x, NT_IOCTL, &cmd, NULL), NVME_SC_SUCCESS);
	nt_eq(nt_oob(x.ctrl.fd), 0);
}

/* Endings of processes and rings */

struct victim {
	const struct ending *e;
	int ready;
};

static void execute(void)
{
	execl("/bin/true", "true", NULL);
	nt_die("exec: %m");
}

static void be_victim(void *arg)
{
	const struct victim *v = arg;
	struct load *l;

	start_all(v->e, 0);
	if (write(v->ready, "", 1) != 1)
		nt_die("pipe: %m");
	if (v->e->victim)
		v->e->victim();
	while (v->e->kill)
		for (l = loads; l < loads + nr_loads; l++) {
			absorb(l);
			top_up(l);
		}
}

static void wait_for(pid_t pid, bool killed)
{
	int status;
	unsigned int i;

	for (i = 0; i < PATIENCE / 10; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			if (killed && WIFSIGNALED(status))
				return;
			nt_eq(status, 0);
			return;
		}
		usleep(10000);
	}
	nt_fail("process %d is still there after %u s", pid, PATIENCE / 1000);
}

static void end_process(const struct ending *e)
{
	struct victim v = { .e = e };
	int fds[2];
	pid_t pid;
	char c;

	if (pipe(fds))
		nt_die("pipe: %m");
	v.ready = fds[1];
	pid = nt_fork(be_victim, &v);
	close(fds[1]);
	if (read(fds[0], &c, 1) != 1) {
		close(fds[0]);
		wait_for(pid, false);
		nt_fail("the process ended too early");
	}
	close(fds[0]);
	if (e->kill)
		kill(pid, SIGKILL);
	wait_for(pid, e->kill);
}

/* Endings of the controller */

static void reset(void *arg)
{
	char path[600];

	(void)arg;
	snprintf(path, sizeof(path), "%s/reset_controller", x.ctrl.sysfs);
	write_to(path, "1");
}

static void unbind_driver(void *arg)
{
	(void)arg;
	write_to("/sys/bus/pci/drivers/nvme/unbind", pci);
	write_to("/sys/bus/pci/drivers/nvme/bind", pci);
}

static void remove_device(void *arg)
{
	char path[600];

	(void)arg;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/remove", pci);
	write_to(path, "1");
	write_to("/sys/bus/pci/rescan", "1");
}

/* The Slot Control register, and where it is in the slot's configuration. */
static __u16 slot_control(int fd, unsigned int *where)
{
	unsigned char config[256];
	unsigned int at;
	__u16 control;

	if (pread(fd, config, sizeof(config), 0) != sizeof(config))
		nt_fail("%s: %m", port);
	for (at = config[PCI_CAPABILITY_LIST];
	     at && config[at] != PCI_CAP_ID_EXP; at = config[at + 1])
		;
	if (!at)
		nt_fail("the slot is not one of PCI Express");
	*where = at + PCI_EXP_SLTCTL;
	memcpy(&control, config + *where, sizeof(control));
	return control;
}

static int open_slot(void)
{
	char path[PATH_MAX + 8];
	int fd;

	snprintf(path, sizeof(path), "%s/config", port);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		nt_fail("%s: %m", path);
	return fd;
}

static bool slot_off(void)
{
	const __u16 off = htole16(PCI_EXP_SLTCTL_PWR_OFF |
				  PCI_EXP_SLTCTL_PWR_IND_OFF);
	unsigned int where;
	int fd = open_slot();
	bool is = (slot_control(fd, &where) & off) == off;

	close(fd);
	return is;
}

/*
 * The driver of the slot switches the indicator off a second after the power,
 * and what has been plugged in meanwhile is out of the slot again then.
 */
static void slot_empty(void)
{
	until(in_slot, false, "in its slot");
	until(slot_off, true, "not off");
}

static void unplug(void *arg)
{
	(void)arg;
	if (monitor("device_del", "{\"id\": \"X\"}"))
		nt_fail("device_del failed");
	slot_empty();
}

/*
 * Cut the power of the slot behind the back of its driver: the device is gone
 * at once, and the driver learns that it is.
 */
static void surprise(void *arg)
{
	unsigned int where;
	__u16 off, on;
	int fd;

	(void)arg;
	fd = open_slot();
	on = slot_control(fd, &where);
	off = on | htole16(PCI_EXP_SLTCTL_PWR_OFF | PCI_EXP_SLTCTL_PWR_IND_OFF);
	/*
	 * The driver does nothing about a slot that is off already: it is told
	 * when the power is back.
	 */
	off &= ~htole16(PCI_EXP_SLTCTL_HPIE);
	if (pwrite(fd, &off, 2, where) != 2 || pwrite(fd, &on, 2, where) != 2)
		nt_fail("%s: %m", port);
	close(fd);
	slot_empty();
}

static void end_device(const struct ending *e, unsigned int round)
{
	struct load *l;
	int status = 0;

	start_all(e, round);
	inject(0, e->mute);
	if (e->run)
		runner = nt_fork(e->run, NULL);
	while (runner && waitpid(runner, &status, WNOHANG) != runner) {
		for (l = loads; l < loads + nr_loads; l++) {
			absorb(l);
			top_up(l);
		}
	}
	runner = 0;
	nt_eq(status, 0);
	drain();
	for (l = loads; l < loads + nr_loads; l++)
		finish(e, round, l);
}

static void run_ending(void *arg)
{
	const struct ending *e = arg;
	unsigned int round;
	size_t i;

	/* of a case that failed */
	if (runner)
		waitpid(runner, NULL, 0);
	runner = 0;
	close_rings();
	for (nr_loads = i = 0; i < ARRAY_SIZE(forms); i++)
		if (strstr(forms[i].name, only_form))
			loads[nr_loads++].form = &forms[i];
	for (round = 0; round < e->rounds * times; round++) {
		/* an ending may be the last of this controller */
		if (round == 0)
			usleep(200000);
		if (in_slot() || !find()) {
			if (!in_slot())
				plug();
			until(find, true, "no node that works");
		}
		nt_pins_mark();
		if (e->victim || e->kill)
			end_process(e);
		else
			end_device(e, round);
		nt_close_ns(&x);

		if (in_slot()) {
			until(find, true, "no node that works");
			inject(0, false);
			works();
			nt_close_ns(&x);
		}
		nt_pins_back();
	}
}

static const struct ending endings[] = {
	{ "process is killed", 3, 700, .kill = true },
	{ "rings are closed", 3, 700, .victim = close_rings },
	{ "process executes", 3, 700, .victim = execute },
	{ "controller is reset", 4, PATIENCE, .run = reset, .cancels = true },
	{ "commands time out, are aborted", TIMEOUT_ROUNDS, 4000, .timeout = true },
	{ "commands time out, controller is reset", 2, PATIENCE,
	  .timeout = true, .mute = true, .cancels = true },
	{ "driver is unbound", 2, 1500, .run = unbind_driver },
	{ "device is removed", 2, 1500, .run = remove_device },
	{ "device is gone by surprise", 2, PATIENCE, .run = surprise,
	  .cancels = true },
	{ "device is unplugged", 2, 8000, .run = unplug },
};

static bool option(const char *arg)
{
	if (!strncmp(arg, "--only=", 7)) {
		only = arg + 7;
		return true;
	}
	if (!strncmp(arg, "--form=", 7)) {
		only_form = arg + 7;
		return true;
	}
	return sscanf(arg, "--times=%u", &times) == 1;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "End processes, rings and controllers with commands in flight.",
		.wants = "suitable",
		.serial = SERIAL,
		.usage = "  --times=N  N times as many rounds\n"
			 "  --only=WORD  cases with WORD in their names\n"
			 "  --form=WORD  forms with WORD in their names\n",
		.option = option,
	};
	size_t i, n = 0;

	nt_init(argc, argv, &prog);
	if (access(MONITOR, F_OK))
		nt_skip_all("no monitor of the test bed to plug a controller with");
	for (i = 0; i < ARRAY_SIZE(endings); i++)
		n += !!strstr(endings[i].name, only);
	nt_plan(n);
	for (i = 0; i < ARRAY_SIZE(endings); i++)
		if (strstr(endings[i].name, only))
			nt_test(run_ending, (void *)&endings[i], "%s",
				endings[i].name);
	return nt_end();
}
