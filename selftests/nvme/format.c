// SPDX-License-Identifier: GPL-2.0
/*
 * Format NVM while an unprivileged user reads: no command is judged by a format
 * that the namespace no longer has.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "region.h"
#include "watch.h"

#define ADMIN_FORMAT	0x80
#define BLOCKS		16
#define DATA		(BLOCKS * 512)
#define ROUNDS		3
#define MAX_CTRLS	4

/* how a command is sent */
enum nt_form { IOCTL, URING, VEC, FIXED, REGION, REGION_POLLED, FORMS };

static const char *const form_names[FORMS] = {
	"ioctl", "io_uring", "vectored", "fixed", "region", "ring queue",
};

/* shared with the readers */
static struct counts {
	unsigned int sent;
	unsigned int good;
	int other;		/* a result that must not be, if not 0 */
} *counts;

/* what happens to a format: LBA Data Size and Metadata Size */
static const struct change {
	const char *name;
	__u8 from_shift, to_shift;
	__u16 from_ms, to_ms;
	__u32 meta_len;		/* that the readers have */
} changes[] = {
	{ "larger blocks", 9, 12, 0, 0, 0 },
	{ "metadata appears", 9, 9, 0, 8, 0 },
	{ "metadata grows", 9, 9, 8, 64, BLOCKS * 8 },
};

static struct nt_dev ctrls[MAX_CTRLS];
static size_t nr_ctrls;
static struct nt_ring ring;

static bool is_prp_only(const struct nt_ns *ns)
{
	unsigned char id[NT_PAGE];

	if (nt_identify(ns->ctrl.fd, NVME_ID_CNS_CTRL, 0, 0, id))
		nt_die("%s: cannot be identified", ns->ctrl.path);
	return !(id[536] & 3);
}

static bool is_shared(const struct nt_ns *ns)
{
	unsigned char id[NT_PAGE];

	if (nt_identify(ns->dev.fd, NVME_ID_CNS_NS, 0, ns->nsid, id))
		nt_die("%s: cannot be identified", ns->dev.path);
	return id[30] & 1;
}

/* Blocks of 512 bytes; lengths matter, or another controller has it, too. */
static bool fits(const struct nt_ns *ns)
{
	return ns->testbed && ns->csi == NVME_CSI_NVM && ns->lba_size == 512 &&
		!ns->ms && (is_prp_only(ns) || is_shared(ns));
}

/* All controllers of the namespace's subsystem. */
static void find_ctrls(const struct nt_ns *ns)
{
	char sysfs[300], path[300], serial[sizeof(ns->dev.serial)];
	struct dirent *e;
	DIR *dir;

	nr_ctrls = 0;
	dir = opendir("/sys/class/nvme");
	if (!dir)
		nt_die("/sys/class/nvme: %m");
	while ((e = readdir(dir)) && nr_ctrls < MAX_CTRLS) {
		snprintf(sysfs, sizeof(sysfs), "/sys/class/nvme/%s", e->d_name);
		if (e->d_name[0] == '.' ||
		    !nt_serial(sysfs, serial, sizeof(serial)) ||
		    strcmp(serial, ns->dev.serial))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		nt_open(&ctrls[nr_ctrls++], path);
	}
	closedir(dir);
	if (!nr_ctrls)
		nt_die("%s has no controller", ns->name);
}

/* Identify fails from now on, or no more. */
static void fail_identify(const struct nt_ns *ns, bool on)
{
	const struct nt_rule rule = {
		.nsid = htole32(ns->nsid),
		.admin = 1,
		.opcode = NVME_ADMIN_IDENTIFY,
		/* Internal Error, may be tried again */
		.status = htole16(0x006),
	};
	size_t i;

	for (i = 0; i < nr_ctrls; i++)
		nt_inject(ctrls[i].fd, on ? &rule : NULL);
}

/* The format of all formats without extended metadata that has these sizes */
static unsigned int find_format(struct nt_ns *ns, __u8 shift, __u16 ms)
{
	unsigned char id[NT_PAGE], *lbaf;
	unsigned int i;

	nt_status(nt_identify(ns->ctrl.fd, NVME_ID_CNS_NS, 0, ns->nsid, id),
		  NVME_SC_SUCCESS);
	for (i = 0, lbaf = id + 128; i <= id[25]; i++, lbaf += 4)
		if (lbaf[2] == shift && nt_le16(lbaf) == ms)
			return i;
	nt_skip("no format with blocks of %u bytes and %u of metadata",
		1U << shift, ms);
}

static void format(struct nt_ns *ns, const struct nt_dev *ctrl,
		   unsigned int format)
{
	struct nvme_uring_cmd cmd = {
		.opcode = ADMIN_FORMAT,
		.nsid = ns->nsid,
		.cdw10 = format,
	};

	nt_status(nt_dev_ioctl(ctrl->fd, NVME_IOCTL_ADMIN64_CMD, &cmd, NULL),
		  NVME_SC_SUCCESS);
}

/* One read, with all that its form needs, again and again. */
struct reader {
	struct nt_dev dev;
	enum nt_form form;
	unsigned char *data;
	void *meta;
	struct iovec vec;
	__u32 region;
	__u32 meta_region;
	struct nvme_uring_cmd cmd;
};

static void reader_open(struct reader *r, const struct nt_ns *ns, uid_t uid,
			enum nt_form form, __u32 data_len, __u32 blocks,
			__u32 meta_len)
{
	struct iovec all;

	memset(r, 0, sizeof(*r));
	r->form = form;
	r->dev = ns->dev;
	r->dev.has_ring = false;
	r->dev.fd = nt_open_as(&ns->dev, uid, O_RDONLY);
	if (r->dev.fd < 0)
		nt_die("%s: errno %d", ns->dev.path, -r->dev.fd);
	r->data = nt_alloc(data_len, 0);
	all = (struct iovec){ r->data, data_len };
	r->vec = all;
	r->cmd = (struct nvme_uring_cmd) {
		.opcode = NVME_CMD_READ,
		.nsid = ns->nsid,
		.addr = (uintptr_t)(form == VEC ? (void *)&r->vec : r->data),
		.data_len = form == VEC ? 1 : data_len,
		.cdw2 = meta_len,
		.cdw3 = data_len,
		.cdw12 = blocks - 1,
	};
	if (meta_len) {
		r->meta = nt_alloc(meta_len, 0);
		r->cmd.metadata = (uintptr_t)r->meta;
		r->cmd.metadata_len = meta_len;
	}
	if (form >= URING)
		nt_ring_open(&ring, 8, form == REGION_POLLED ?
			     IORING_SETUP_IOPOLL : 0);
	if (form == FIXED && io_uring_register_buffers(&ring.ring, &all, 1))
		nt_die("buffers cannot be registered");
	if (form < REGION)
		return;
	if (nt_map(r->dev.fd, 0, r->data, data_len, &r->region) ||
	    (meta_len && nt_map(r->dev.fd, 0, r->meta, meta_len,
				&r->meta_region)))
		nt_die("memory cannot be mapped");
	r->cmd.addr = 0;
	r->cmd.metadata = 0;
}

static int reader_run(struct reader *r)
{
	switch (r->form) {
	case IOCTL:
		return nt_dev_ioctl(r->dev.fd, NVME_IOCTL_IO64_CMD, &r->cmd,
				    NULL);
	case URING:
		return nt_ring_run(&ring, r->dev.fd, NVME_URING_CMD_IO,
				   NT_UNREGISTERED, &r->cmd);
	case VEC:
		return nt_ring_run(&ring, r->dev.fd, NVME_URING_CMD_IO_VEC,
				   NT_UNREGISTERED, &r->cmd);
	case FIXED:
		return nt_ring_run(&ring, r->dev.fd, NVME_URING_CMD_IO, 0,
				   &r->cmd);
	default:
		return nt_region_run(&ring, r->dev.fd, NVME_NG_URING_CMD_IO,
				     &r->cmd, r->region, r->meta_region);
	}
}

static void reader_close(struct reader *r)
{
	close(r->dev.fd);
	if (r->form >= URING)
		nt_ring_close(&ring);
}

static __u64 physical(const void *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	__u64 entry = 0;

	if (fd < 0 || pread(fd, &entry, sizeof(entry), (uintptr_t)at / NT_PAGE *
			    sizeof(entry)) != sizeof(entry))
		nt_die("/proc/self/pagemap: %m");
	close(fd);
	return (entry & ((1ULL << 55) - 1)) * NT_PAGE;
}

/*
 * A process that reads as the unprivileged user until it is killed.  Where a
 * controller takes the second page for a list it finds the address of @victim.
 */
static pid_t start(const struct nt_ns *ns, enum nt_form form, __u32 meta_len,
		   __u64 victim)
{
	struct reader r;
	unsigned int i;
	pid_t pid;
	int ret;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		nt_die("fork: %m");
	if (pid)
		return pid;
	reader_open(&r, ns, NT_TESTER, form, DATA, BLOCKS, meta_len);
	if (setresgid(NT_TESTER, NT_TESTER, NT_TESTER) ||
	    setresuid(NT_TESTER, NT_TESTER, NT_TESTER))
		_exit(1);
	for (;;) {
		for (i = NT_PAGE; i < DATA; i += sizeof(victim))
			memcpy(r.data + i, &victim, sizeof(victim));
		ret = reader_run(&r);
		if (!ret)
			counts[form].good++;
		/*
		 * The format is not known, or not the one that was, which with
		 * SGLs the controller tells.
		 */
		else if (ret != -EACCES && ret != -EINVAL &&
			 ret != NVME_SC_SGL_LENGTH)
			counts[form].other = ret;
		counts[form].sent++;
	}
}

/* Until each of the readers has sent @n more. */
static void wait_for(unsigned int n)
{
	unsigned int from[FORMS], i, ms;

	for (i = 0; i < FORMS; i++)
		from[i] = counts[i].sent;
	for (i = 0, ms = 0; i < FORMS; ms++, usleep(1000)) {
		while (i < FORMS && __atomic_load_n(&counts[i].sent,
						    __ATOMIC_RELAXED) - from[i] >= n)
			i++;
		if (ms > 60000)
			nt_fail("%s: no more commands", form_names[i]);
	}
}

struct job {
	struct nt_ns *ns;
	const struct change *change;
};

static void race(void *arg)
{
	unsigned char poison[NT_PAGE], *victim = nt_alloc(NT_PAGE, 0);
	struct job *j = arg;
	const struct change *c = j->change;
	unsigned int from, to, i;
	pid_t pids[FORMS];

	memset(poison, NT_POISON, sizeof(poison));
	if (mlock(victim, NT_PAGE))
		nt_die("mlock: %m");
	from = find_format(j->ns, c->from_shift, c->from_ms);
	to = find_format(j->ns, c->to_shift, c->to_ms);
	format(j->ns, &ctrls[0], from);
	for (i = 0; i < nr_ctrls; i++)
		nt_oob_reset(ctrls[i].fd);
	memset(counts, 0, FORMS * sizeof(*counts));
	for (i = 0; i < FORMS; i++)
		pids[i] = start(j->ns, i, c->meta_len, physical(victim));
	for (i = 0; i < ROUNDS; i++) {
		wait_for(2);
		format(j->ns, &ctrls[i % nr_ctrls], to);
		wait_for(2);
		format(j->ns, &ctrls[(i + 1) % nr_ctrls], from);
	}
	wait_for(2);
	for (i = 0; i < FORMS; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	format(j->ns, &ctrls[0], find_format(j->ns, 9, 0));
	for (i = 0; i < nr_ctrls; i++)
		nt_eq(nt_oob(ctrls[i].fd), 0);
	nt_same(victim, poison, NT_PAGE);
	for (i = 0; i < FORMS; i++) {
		if (!counts[i].good)
			nt_fail("%s: no command was successful", form_names[i]);
		if (counts[i].other)
			nt_fail("%s: a command ended with %d", form_names[i],
				counts[i].other);
	}
}

static void expect(struct nt_ns *ns, uid_t uid, enum nt_form form, int want)
{
	struct reader r;
	int ret;

	reader_open(&r, ns, uid, form, NT_PAGE, 1, 0);
	/* only the capability of who sends it counts */
	if (uid && seteuid(uid))
		nt_die("seteuid: %m");
	ret = reader_run(&r);
	if (uid && seteuid(0))
		nt_die("seteuid: %m");
	reader_close(&r);
	if (ret != want)
		nt_fail("%s as uid %u: %d, expected %d", form_names[form], uid,
			ret, want);
}

static void rescan(void)
{
	char path[600];
	size_t i;
	int fd;

	for (i = 0; i < nr_ctrls; i++) {
		snprintf(path, sizeof(path), "%s/rescan_controller",
			 ctrls[i].sysfs);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "1", 1) != 1)
			nt_die("%s: %m", path);
		close(fd);
	}
}

/* The limits tell the size of a block, 0 while it is not known. */
static void wait_for_size(struct nt_ns *ns, __u32 size)
{
	struct nvme_ng_limits lim;
	unsigned int i;

	for (i = 0; i < 10000; i++, usleep(1000)) {
		nt_eq(nt_limits(ns->dev.fd, &lim), 0);
		if (lim.lba_size == size)
			return;
	}
	nt_fail("blocks are of %u bytes, expected %u", lim.lba_size, size);
}

/* The format cannot be read again: only who has the privilege may guess. */
static void unknown(void *arg)
{
	struct job *j = arg;
	unsigned int from, to;
	enum nt_form form;

	from = find_format(j->ns, 9, 0);
	to = find_format(j->ns, 12, 0);
	format(j->ns, &ctrls[0], from);
	for (form = 0; form < FORMS; form++)
		expect(j->ns, NT_TESTER, form, NVME_SC_SUCCESS);
	fail_identify(j->ns, true);
	format(j->ns, &ctrls[0], to);
	wait_for_size(j->ns, 0);
	for (form = 0; form < FORMS; form++) {
		expect(j->ns, NT_TESTER, form, -EACCES);
		expect(j->ns, 0, form, NVME_SC_SUCCESS);
	}
	fail_identify(j->ns, false);
	rescan();
	wait_for_size(j->ns, 4096);
	for (form = 0; form < FORMS; form++)
		expect(j->ns, NT_TESTER, form, NVME_SC_SUCCESS);
	format(j->ns, &ctrls[0], from);
	wait_for_size(j->ns, 512);
}

static int fault_fd;
static unsigned char *late;

/* Reads into memory that is not there until somebody brings it. */
static void *read_late(void *arg)
{
	struct nt_ns *ns = arg;
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_READ,
		.nsid = ns->nsid,
		.addr = (uintptr_t)late,
		.data_len = NT_PAGE,
		.cdw3 = NT_PAGE,
	};

	return (void *)(intptr_t)nt_dev_ioctl(ns->dev.fd, NVME_IOCTL_IO64_CMD,
					      &cmd, NULL);
}

/* A command that waits for its memory holds nobody up. */
static void late_memory(void *arg)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_zeropage zero = { };
	struct job *j = arg;
	struct uffd_msg msg;
	unsigned int to, ms;
	pthread_t thread;
	int status = 0;
	pid_t pid;
	void *ret;

	late = mmap(NULL, NT_PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fault_fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fault_fd < 0)
		nt_skip("no userfaultfd: %m");
	reg.range.start = (uintptr_t)late;
	reg.range.len = NT_PAGE;
	zero.range = reg.range;
	if (late == MAP_FAILED ||
	    ioctl(fault_fd, UFFDIO_API, &api) ||
	    ioctl(fault_fd, UFFDIO_REGISTER, &reg))
		nt_die("userfaultfd: %m");
	to = find_format(j->ns, 9, 0);
	if (pthread_create(&thread, NULL, read_late, j->ns))
		nt_die("no thread");
	if (read(fault_fd, &msg, sizeof(msg)) != sizeof(msg))
		nt_die("userfaultfd: %m");
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		nt_die("fork: %m");
	if (!pid) {
		format(j->ns, &ctrls[0], to);
		_exit(0);
	}
	for (ms = 0; !waitpid(pid, &status, WNOHANG) && ms < 20000; ms++)
		usleep(1000);
	if (ioctl(fault_fd, UFFDIO_ZEROPAGE, &zero))
		nt_die("userfaultfd: %m");
	if (ms == 20000)
		waitpid(pid, &status, 0);
	pthread_join(thread, &ret);
	nt_status((intptr_t)ret, NVME_SC_SUCCESS);
	nt_eq(status, 0);
	if (ms == 20000)
		nt_fail("Format NVM waited for the page of a reader");
	close(fault_fd);
	munmap(late, NT_PAGE);
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test what may be read while a namespace is formatted.",
		.wants = "NVM (512 byte blocks, PRP only or shared)",
		.fits = fits,
	};
	struct job j = { };
	struct nt_ns *ns;
	size_t i, k, n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	counts = mmap(NULL, NT_PAGE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		nt_die("mmap: %m");
	nt_plan(n * (ARRAY_SIZE(changes) + 2));
	for (i = 0; i < n; i++) {
		j.ns = &ns[i];
		find_ctrls(j.ns);
		for (k = 0; k < ARRAY_SIZE(changes); k++) {
			j.change = &changes[k];
			nt_test(race, &j, "%s %s", ns[i].name,
				changes[k].name);
		}
		nt_test(unknown, &j, "%s format unknown", ns[i].name);
		nt_test(late_memory, &j, "%s memory comes late", ns[i].name);
		for (k = 0; k < nr_ctrls; k++)
			nt_close(&ctrls[k]);
	}
	return nt_end();
}
