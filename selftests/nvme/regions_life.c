// SPDX-License-Identifier: GPL-2.0
/*
 * What ends a region, its memory or its controller while commands are in
 * flight: each completes once, memory is let go, and not written afterwards.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "region.h"
#include "watch.h"

#define FLIGHT		32
#define AREA		NT_HUGE
#define LEN		8192
#define DELAY_MS	400
#define FILES		8	/* as many as queues, or more */
#define REGIONS		65535	/* of an open file */
#define QUEUE_DEPTH	1024	/* as the driver makes them */

#define ADMIN_FORMAT	0x80

static const struct nt_mode *const modes[] = {
	&nt_modes[0], &nt_modes[3], &nt_modes[4], &nt_modes[5],
};

struct life {
	struct nt_ns *ns;
	const struct nt_mode *mode;
	struct nt_area area;
	__u32 region;
	unsigned char *want;
	unsigned long pins;
	int fd;
};

static struct nt_ring ring;

static bool is_plain_nvm(const struct nt_ns *ns)
{
	return ns->testbed && ns->csi == NVME_CSI_NVM && ns->lba_size == 512 &&
	       !ns->ms;
}

/* Give the controller time to end a reset; is it of use then? */
static bool is_live(const char *sysfs)
{
	char path[600], state[16] = "";
	unsigned int i;
	FILE *f;

	snprintf(path, sizeof(path), "%s/state", sysfs);
	for (i = 0; i < 600; i++, usleep(50000)) {
		f = fopen(path, "r");
		if (!f)
			return false;
		if (!fgets(state, sizeof(state), f))
			state[0] = 0;
		fclose(f);
		if (!strncmp(state, "live", 4))
			return true;
		if (strncmp(state, "resetting", 9) &&
		    strncmp(state, "connecting", 10))
			return false;
	}
	return false;
}

/* Every controller of the namespace follows the rule, it may have two. */
static void inject(struct nt_ns *ns, const struct nt_rule *rule)
{
	char serial[sizeof(ns->dev.serial)], path[300];
	const char *class = "/sys/class/nvme";
	struct dirent *e;
	DIR *dir;
	int fd;

	dir = opendir(class);
	if (!dir)
		nt_die("%s: %m", class);
	while ((e = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s", class, e->d_name);
		if (e->d_name[0] == '.' ||
		    !nt_serial(path, serial, sizeof(serial)) ||
		    strcmp(serial, ns->dev.serial) || !is_live(path))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			nt_die("cannot open %s: %m", path);
		nt_inject(fd, rule);
		close(fd);
	}
	closedir(dir);
}

/* Reads of the namespace take a while from now on. */
static void delay_reads(struct life *l, __u32 ms)
{
	struct nt_rule rule = {
		.nsid = htole32(l->ns->nsid),
		.opcode = NVME_CMD_READ,
		.delay_ms = htole32(ms),
	};

	inject(l->ns, ms ? &rule : NULL);
}

static void wait_pins(struct life *l)
{
	unsigned int i;

	for (i = 0; i < 200 && nt_pins() != l->pins; i++)
		usleep(50000);
	nt_eq(nt_pins(), l->pins);
}

static void put_read(struct nt_ring *r, int fd, const struct nt_ns *ns,
		     __u32 region, unsigned int i, __u32 timeout_ms)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_READ,
		.nsid = ns->nsid,
		.addr = (__u64)i * LEN,
		.data_len = LEN,
		.cdw3 = LEN,
		.cdw10 = i * (LEN / 512),
		.cdw12 = LEN / 512 - 1,
		.timeout_ms = timeout_ms,
	};

	nt_region_put(r, fd, NVME_NG_URING_CMD_IO, &cmd, region, 0);
}

/* Write what is to be read. */
static void prepare(struct life *l)
{
	unsigned int i;

	l->fd = open(l->ns->dev.path, O_RDWR | O_CLOEXEC);
	if (l->fd < 0)
		nt_fail("cannot open %s: %m", l->ns->dev.path);
	l->pins = nt_pins();
	l->want = malloc(FLIGHT * LEN);
	nt_fill(l->want, FLIGHT * LEN, time(NULL));
	for (i = 0; i < FLIGHT; i++) {
		struct nvme_uring_cmd cmd = {
			.opcode = NVME_CMD_WRITE,
			.nsid = l->ns->nsid,
			.addr = (uintptr_t)l->want + i * LEN,
			.data_len = LEN,
			.cdw3 = LEN,
			.cdw10 = i * (LEN / 512),
			.cdw12 = LEN / 512 - 1,
		};

		nt_status(nt_dev_ioctl(l->fd, NVME_IOCTL_IO64_CMD, &cmd, NULL),
			  NVME_SC_SUCCESS);
	}
	nt_area_make(NT_SMALL, AREA, &l->area);
	nt_status(nt_map(l->fd, 0, l->area.at, AREA, &l->region), 0);
	memset(l->area.at, NT_POISON, AREA);
	nt_ring_open(&ring, 2 * FLIGHT, l->mode->setup);
}

static void fly(struct life *l, __u32 timeout_ms)
{
	unsigned int i;

	for (i = 0; i < FLIGHT; i++)
		put_read(&ring, l->fd, l->ns, l->region, i, timeout_ms);
	nt_ring_submit(&ring);
	usleep(20000);
}

/* Every command completes once; how many of them well. */
static unsigned int land(bool must)
{
	unsigned int name, good = 0;
	int res;

	while (ring.flying) {
		if (!nt_ring_reap(&ring, 90000, &name, &res))
			nt_die("%u commands did not complete within 90 s",
			       ring.flying);
		if (must)
			nt_status(res, 0);
		good += !res;
	}
	nt_ring_quiet(&ring);
	return good;
}

static void finish(struct life *l)
{
	nt_ring_close(&ring);
	close(l->fd);
	munmap(l->area.at, AREA);
	free(l->want);
	wait_pins(l);
}

/* Reads work, now that nothing is in the way. */
static void works(struct life *l)
{
	memset(l->area.at, NT_POISON, AREA);
	fly(l, 0);
	land(true);
	nt_same(l->area.at, l->want, FLIGHT * LEN);
}

/* Memory that is new to the process stays as it was filled. */
static void check_given_back(void)
{
	const size_t size = 96 << 20;
	size_t i;
	unsigned long *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		nt_die("cannot get %zu bytes: %m", size);
	for (i = 0; i < size / sizeof(*p); i++)
		p[i] = i * 0x9e3779b97f4a7c15UL;
	usleep(DELAY_MS * 1500);
	for (i = 0; i < size / sizeof(*p); i++)
		if (p[i] != i * 0x9e3779b97f4a7c15UL)
			nt_fail("memory that was given back is written to");
	munmap(p, size);
}

static void run_unmap(struct life *l)
{
	unsigned long kb;

	delay_reads(l, DELAY_MS);
	fly(l, 0);
	kb = nt_pinned_kb();
	nt_status(nt_unmap(l->fd, l->region), 0);
	nt_eq(nt_pins() > l->pins, true);
	/* nor is it given back what was charged for it */
	nt_eq(nt_pinned_kb(), kb);
	delay_reads(l, 0);
	put_read(&ring, l->fd, l->ns, l->region, 0, 0);
	nt_ring_submit(&ring);
	nt_eq(land(false), FLIGHT);
	nt_same(l->area.at, l->want, FLIGHT * LEN);
	wait_pins(l);
	nt_eq(nt_pinned_kb(), kb - AREA / 1024);
	/* the handle comes to mean other memory */
	nt_status(nt_map(l->fd, 0, l->area.at + LEN, AREA - LEN, &l->region),
		  0);
	fly(l, 0);
	land(true);
	nt_same(l->area.at + LEN, l->want, FLIGHT * LEN);
}

static void run_munmap(struct life *l)
{
	delay_reads(l, DELAY_MS);
	fly(l, 0);
	munmap(l->area.at, AREA);
	check_given_back();
	delay_reads(l, 0);
	land(true);
	/* nobody sees the memory but the device, which still can */
	fly(l, 0);
	land(true);
	nt_status(nt_unmap(l->fd, l->region), 0);
	wait_pins(l);
	nt_area_make(NT_SMALL, AREA, &l->area);
}

static void run_ftruncate(struct life *l)
{
	int fd = memfd_create("nvme-test", MFD_CLOEXEC);
	unsigned char *at;
	__u32 saved = l->region;

	nt_eq(ftruncate(fd, AREA), 0);
	at = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	nt_status(nt_map(l->fd, 0, at, AREA, &l->region), 0);
	delay_reads(l, DELAY_MS);
	fly(l, 0);
	nt_eq(ftruncate(fd, 0), 0);
	check_given_back();
	delay_reads(l, 0);
	land(true);
	fly(l, 0);
	land(true);
	/* the file grows again with pages of its own */
	nt_eq(ftruncate(fd, AREA), 0);
	nt_eq(at[0] | at[AREA - 1], 0);
	nt_status(nt_unmap(l->fd, l->region), 0);
	munmap(at, AREA);
	close(fd);
	l->region = saved;
}

static void run_fork(struct life *l)
{
	int status;
	pid_t pid;

	delay_reads(l, DELAY_MS);
	fly(l, 0);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		unsigned int i;

		for (i = 0; i < 100; i++) {
			memset(l->area.at, i, AREA);
			usleep(DELAY_MS * 20);
		}
		for (i = 0; i < AREA; i++)
			if (l->area.at[i] != 99)
				_exit(1);
		_exit(0);
	}
	nt_eq(pid < 0, false);
	delay_reads(l, 0);
	land(true);
	nt_same(l->area.at, l->want, FLIGHT * LEN);
	nt_eq(waitpid(pid, &status, 0), pid);
	nt_eq(status, 0);
	works(l);
}

static void run_close(struct life *l)
{
	delay_reads(l, DELAY_MS);
	fly(l, 0);
	close(l->fd);
	delay_reads(l, 0);
	land(true);
	nt_same(l->area.at, l->want, FLIGHT * LEN);
	wait_pins(l);
	l->fd = open("/dev/null", O_RDONLY);
}

/* A process that has regions and commands in flight of its own. */
static pid_t start_child(struct life *l, bool exec)
{
	int ready[2], fd;
	char byte;
	pid_t pid;

	nt_eq(pipe(ready), 0);
	fflush(stdout);
	pid = fork();
	nt_eq(pid < 0, false);
	if (pid) {
		close(ready[1]);
		nt_eq(read(ready[0], &byte, 1), 1);
		close(ready[0]);
		return pid;
	}
	fd = open(l->ns->dev.path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || nt_map(fd, 0, l->area.at, AREA, &l->region))
		_exit(1);
	l->fd = fd;
	nt_ring_open(&ring, 2 * FLIGHT, l->mode->setup);
	fly(l, 0);
	if (write(ready[1], "", 1) != 1)
		_exit(1);
	if (exec)
		execlp("true", "true", NULL);
	for (;;)
		pause();
}

static void run_kill(struct life *l)
{
	pid_t pid;
	int status, i;

	delay_reads(l, DELAY_MS);
	for (i = 0; i < 3; i++) {
		pid = start_child(l, false);
		kill(pid, SIGKILL);
		nt_eq(waitpid(pid, &status, 0), pid);
	}
	delay_reads(l, 0);
	/* those of the case itself remain */
	l->pins += AREA / NT_PAGE;
	wait_pins(l);
	l->pins -= AREA / NT_PAGE;
	check_given_back();
	works(l);
}

static void run_exec(struct life *l)
{
	pid_t pid;
	int status;

	delay_reads(l, DELAY_MS);
	pid = start_child(l, true);
	nt_eq(waitpid(pid, &status, 0), pid);
	nt_eq(status, 0);
	delay_reads(l, 0);
	l->pins += AREA / NT_PAGE;
	wait_pins(l);
	l->pins -= AREA / NT_PAGE;
	check_given_back();
	works(l);
}

static void poke(const char *dir, const char *name, const char *value)
{
	char path[600];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		nt_fail("cannot write to %s: %m", path);
	close(fd);
}

/* The PCI function of the controller. */
static void pci_of(const struct nt_ns *ns, char *path)
{
	char link[600];

	snprintf(link, sizeof(link), "%s/device", ns->ctrl.sysfs);
	if (!realpath(link, path))
		nt_fail("%s: %m", link);
}

static void reset(struct life *l)
{
	poke(l->ns->ctrl.sysfs, "reset_controller", "1");
}

/*
 * What was unmapped and waits for a command counts as what is mapped does: a
 * command that takes its time does not let a program pile memory up.
 */
static void run_unmap_many(struct life *l)
{
	unsigned long kb = nt_pinned_kb();
	__u32 region;
	int i, ret;

	delay_reads(l, 20000);
	put_read(&ring, l->fd, l->ns, l->region, 0, 0);
	nt_ring_submit(&ring);
	usleep(20000);
	delay_reads(l, 0);
	for (i = 1; i < REGIONS; i++) {
		nt_status(nt_map(l->fd, 0, l->area.at + LEN, 512, &region), 0);
		nt_eq(region, l->region + 1);
		nt_status(nt_unmap(l->fd, region), 0);
	}
	nt_eq(nt_pinned_kb() - kb, (REGIONS - 1) * NT_PAGE / 1024);
	ret = nt_map(l->fd, 0, l->area.at, NT_PAGE, &region);
	reset(l);
	land(false);
	nt_status(ret, -EMFILE);
	for (i = 0; i < 1000 && nt_pinned_kb() != kb; i++)
		usleep(10000);
	nt_eq(nt_pinned_kb(), kb);
	nt_status(nt_map(l->fd, 0, l->area.at, NT_PAGE, &region), 0);
	nt_status(nt_unmap(l->fd, region), 0);
	works(l);
}

static void run_reset(struct life *l)
{
	unsigned int i;

	for (i = 0; i < 3; i++) {
		delay_reads(l, DELAY_MS);
		fly(l, 0);
		delay_reads(l, 0);
		reset(l);
		land(false);
		works(l);
	}
}

/* Reads without an end while a process of its own does something. */
static unsigned int under_load(struct life *l, void (*event)(struct life *l),
			       unsigned int times)
{
	unsigned int i, name, good = 0, bad = 0;
	int status, res;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	nt_eq(pid < 0, false);
	if (!pid) {
		for (i = 0; i < times; i++) {
			usleep(300000);
			event(l);
		}
		fflush(stdout);
		_exit(0);
	}
	for (i = 0; !waitpid(pid, &status, WNOHANG); i++) {
		while (ring.flying < FLIGHT)
			put_read(&ring, l->fd, l->ns, l->region, i++ % FLIGHT,
				 0);
		nt_ring_submit(&ring);
		if (!nt_ring_reap(&ring, 90000, &name, &res))
			nt_die("%u commands did not complete within 90 s",
			       ring.flying);
		good += !res;
		bad += !!res;
	}
	nt_eq(status, 0);
	land(false);
	nt_note("%u reads, %u of them cut short", good, bad);
	return good;
}

static void run_reset_load(struct life *l)
{
	under_load(l, reset, 4);
	works(l);
}

static void format(struct life *l)
{
	struct nvme_uring_cmd cmd = {
		.opcode = ADMIN_FORMAT,
		.nsid = l->ns->nsid,
		.timeout_ms = 60000,
	};

	if (nt_dev_ioctl(l->ns->ctrl.fd, NVME_IOCTL_ADMIN64_CMD, &cmd, NULL))
		_exit(1);
}

static void run_format_load(struct life *l)
{
	nt_eq(!under_load(l, format, 3), false);
	/* all blocks read as zeroes now */
	memset(l->want, 0, FLIGHT * LEN);
	works(l);
}

/* Queues are frozen for this, too. */
static void rescan(struct life *l)
{
	poke(l->ns->ctrl.sysfs, "rescan_controller", "1");
}

static void run_rescan_load(struct life *l)
{
	nt_eq(under_load(l, rescan, 10) >= FLIGHT, true);
	works(l);
}

static void run_timeout(struct life *l)
{
	struct timespec start, end;
	unsigned int name;
	int res;

	delay_reads(l, 20000);
	put_read(&ring, l->fd, l->ns, l->region, 0, 1000);
	nt_ring_submit(&ring);
	usleep(20000);
	delay_reads(l, 0);
	/* nobody polls for it all the time */
	put_read(&ring, l->fd, l->ns, l->region, 1, 0);
	nt_ring_submit(&ring);
	clock_gettime(CLOCK_MONOTONIC, &start);
	nt_eq(nt_ring_reap(&ring, 10000, &name, &res), true);
	nt_status(res, 0);
	if (!nt_ring_reap(&ring, 60000, &name, &res))
		nt_die("no completion within 60 s");
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (!res)
		nt_fail("a read that should have been aborted succeeded");
	if (end.tv_sec - start.tv_sec > 12)
		nt_fail("a timeout of 1 s took %ld s",
			(long)(end.tv_sec - start.tv_sec));
	works(l);
}

/* An abort does not help where the controller answers nothing. */
static void run_timeout_dead(struct life *l)
{
	char pci[PATH_MAX], path[PATH_MAX + 16];
	unsigned short none = 0;
	unsigned int name;
	int fd, res;

	pci_of(l->ns, pci);
	snprintf(path, sizeof(path), "%s/config", pci);
	delay_reads(l, 20000);
	put_read(&ring, l->fd, l->ns, l->region, 0, 1000);
	nt_ring_submit(&ring);
	usleep(20000);
	delay_reads(l, 0);
	/* registers read as all ones from here on */
	fd = open(path, O_RDWR);
	nt_eq(pwrite(fd, &none, 2, 4), 2);
	close(fd);
	if (!nt_ring_reap(&ring, 60000, &name, &res))
		nt_die("no completion within 60 s");
	nt_eq(!res, false);
	sleep(2);
	works(l);
}

/* Find the namespace again, wherever it is now. */
static void reopen(struct nt_ns *ns)
{
	char serial[sizeof(ns->dev.serial)], path[300], sysfs[600];
	__u32 nsid = ns->nsid;
	struct dirent *e;
	unsigned int i;
	DIR *dir;
	int fd;

	memcpy(serial, ns->dev.serial, sizeof(serial));
	for (i = 0; i < 150; i++, usleep(200000)) {
		dir = opendir("/sys/class/nvme-generic");
		while (dir && (e = readdir(dir))) {
			char got[sizeof(serial)];

			snprintf(sysfs, sizeof(sysfs),
				 "/sys/class/nvme-generic/%s", e->d_name);
			if (e->d_name[0] == '.' ||
			    !nt_serial(sysfs, got, sizeof(got)) ||
			    strcmp(got, serial))
				continue;
			snprintf(path, sizeof(path), "/dev/%s", e->d_name);
			fd = open(path, O_RDWR | O_CLOEXEC);
			if (fd < 0)
				continue;
			if (ioctl(fd, NVME_IOCTL_ID) == (int)nsid) {
				close(fd);
				closedir(dir);
				nt_close_ns(ns);
				nt_open_ns(ns, path);
				return;
			}
			close(fd);
		}
		if (dir)
			closedir(dir);
	}
	nt_die("NSID %u of %s did not come back", nsid, serial);
}

/* The file outlives its controller: no harm, no regions, pages are let go. */
static void after_removal(struct life *l)
{
	__u32 other;
	int res;

	land(false);
	put_read(&ring, l->fd, l->ns, l->region, 0, 0);
	nt_ring_submit(&ring);
	nt_eq(land(false), 0);
	res = nt_map(l->fd, 0, l->area.at, AREA, &other);
	if (!res)
		nt_fail("mapped for a controller that is gone");
	check_given_back();
	nt_status(nt_unmap(l->fd, l->region), 0);
	wait_pins(l);
}

static void run_remove(struct life *l)
{
	char pci[PATH_MAX];

	pci_of(l->ns, pci);
	delay_reads(l, DELAY_MS);
	fly(l, 0);
	delay_reads(l, 0);
	poke(pci, "remove", "1");
	after_removal(l);
	poke("/sys/bus/pci", "rescan", "1");
	reopen(l->ns);
}

/* Its registers are gone before the driver knows. */
static void run_surprise(struct life *l)
{
	char pci[PATH_MAX], path[PATH_MAX + 16];
	unsigned short none = 0;
	int fd;

	pci_of(l->ns, pci);
	snprintf(path, sizeof(path), "%s/config", pci);
	delay_reads(l, 20000);
	fly(l, 3000);
	delay_reads(l, 0);
	fd = open(path, O_RDWR);
	nt_eq(pwrite(fd, &none, 2, 4), 2);
	close(fd);
	poke(pci, "remove", "1");
	after_removal(l);
	poke("/sys/bus/pci", "rescan", "1");
	reopen(l->ns);
}

static void run_unbind(struct life *l)
{
	char pci[PATH_MAX], *name;

	pci_of(l->ns, pci);
	name = strrchr(pci, '/') + 1;
	delay_reads(l, DELAY_MS);
	fly(l, 0);
	delay_reads(l, 0);
	poke("/sys/bus/pci/drivers/nvme", "unbind", name);
	after_removal(l);
	poke("/sys/bus/pci/drivers/nvme", "bind", name);
	reopen(l->ns);
}

struct mapper {
	pthread_t thread;
	struct life *l;
	unsigned int mapped;
	int ret;
};

/* Map and unmap until that fails for good. */
static void *keep_mapping(void *arg)
{
	struct mapper *m = arg;
	__u32 region;

	do {
		m->ret = nt_map(m->l->fd, 0, m->l->area.at, AREA, &region);
		if (m->ret)
			break;
		__atomic_add_fetch(&m->mapped, 1, __ATOMIC_RELAXED);
		m->ret = nt_unmap(m->l->fd, region);
	} while (!m->ret);
	return NULL;
}

/* The controller goes while memory is mapped for it and unmapped. */
static void run_unbind_map(struct life *l)
{
	struct mapper mappers[3];
	char pci[PATH_MAX], *name;
	size_t i;

	pci_of(l->ns, pci);
	name = strrchr(pci, '/') + 1;
	for (i = 0; i < ARRAY_SIZE(mappers); i++) {
		mappers[i] = (struct mapper) { .l = l };
		if (pthread_create(&mappers[i].thread, NULL, keep_mapping,
				   &mappers[i]))
			nt_die("cannot make a thread");
	}
	for (i = 0; i < ARRAY_SIZE(mappers); i++)
		while (__atomic_load_n(&mappers[i].mapped,
				       __ATOMIC_RELAXED) < 8 &&
		       !__atomic_load_n(&mappers[i].ret, __ATOMIC_RELAXED))
			sched_yield();
	poke("/sys/bus/pci/drivers/nvme", "unbind", name);
	for (i = 0; i < ARRAY_SIZE(mappers); i++)
		pthread_join(mappers[i].thread, NULL);
	after_removal(l);
	poke("/sys/bus/pci/drivers/nvme", "bind", name);
	reopen(l->ns);
	/* a head may have found that it has no path before */
	for (i = 0; i < ARRAY_SIZE(mappers); i++)
		if (mappers[i].ret != -EAGAIN)
			nt_status(mappers[i].ret, -ENODEV);
}

/* Are the namespaces of the controller gone? */
static bool has_no_namespace(const struct nt_ns *ns)
{
	char pattern[600];
	glob_t g;
	int ret;

	snprintf(pattern, sizeof(pattern), "%s/nvme*n*", ns->ctrl.sysfs);
	ret = glob(pattern, 0, NULL, &g);
	if (!ret)
		globfree(&g);
	return ret == GLOB_NOMATCH;
}

/* Without rules a controller that has lost its queues gets them again. */
static void forget_rules(void)
{
	static const char *const ids[] = { "A0", "A1", "B" };
	char line[200];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		snprintf(line, sizeof(line),
			 "qmp qom-set '{\"path\": \"/machine/peripheral/%s\", \"property\": \"x-inject\", \"value\": \"\"}' >/dev/null",
			 ids[i]);
		if (system(line))
			nt_die("%s: failed", line);
	}
}

/*
 * Go round the queue once and a half.  Completions in it look as if they were
 * new to somebody who begins at the first then, and not to the driver.
 */
static void go_round(struct life *l)
{
	unsigned int i;

	reset(l);
	for (i = 0; i < 3 * QUEUE_DEPTH / 2; i += FLIGHT) {
		unsigned int k;

		for (k = 0; k < FLIGHT; k++)
			put_read(&ring, l->fd, l->ns, l->region, k, 0);
		nt_ring_submit(&ring);
		land(true);
	}
}

/*
 * A reset after which the controller gives no I/O queues, and another one.
 * Every entry point of an open file finds a namespace without a queue then.
 */
static void run_lost_queues(struct life *l)
{
	struct nt_rule rule = {
		.admin = 1,
		.opcode = NVME_ADMIN_SET_FEATURES,
		.status = htole16(0x4006),
	};
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_READ,
		.nsid = l->ns->nsid,
		.addr = (uintptr_t)l->area.at,
		.data_len = 512,
	};
	struct nvme_ng_limits lim;
	unsigned int i;
	__u32 other;
	int ret;

	delay_reads(l, 0);
	go_round(l);
	nt_inject(l->ns->ctrl.fd, &rule);
	fly(l, 0);
	reset(l);
	land(false);
	for (i = 0; !has_no_namespace(l->ns); i++, usleep(10000))
		if (i > 3000)
			nt_fail("the controller has not lost its queues");
	put_read(&ring, l->fd, l->ns, l->region, 0, 0);
	nt_ring_submit(&ring);
	land(false);
	ret = nt_limits(l->fd, &lim);
	if (ret && ret != -EAGAIN)
		nt_fail("limits: errno %d", -ret);
	nt_dev_ioctl(l->fd, NVME_IOCTL_IO64_CMD, &cmd, NULL);
	if (!nt_map(l->fd, 0, l->area.at, NT_PAGE, &other))
		nt_eq(nt_unmap(l->fd, other), 0);
	forget_rules();
	reset(l);
	reopen(l->ns);
}

/* Reads of the block device, polled for; none continues another. */
static void fly_block(struct nt_ring *r, int fd, unsigned char *mem)
{
	static const struct nvme_uring_cmd none;
	unsigned int i;

	for (i = 0; i < FLIGHT; i++) {
		struct io_uring_sqe *sqe = nt_ring_put(r, fd, 0,
						       NT_UNREGISTERED, &none);
		__u64 name = sqe->user_data;

		io_uring_prep_read(sqe, fd, mem + i * NT_PAGE, NT_PAGE,
				   2ULL * i * NT_PAGE);
		sqe->user_data = name;
	}
	nt_ring_submit(r);
}

/* They are polled for until they have ended.  Return: how many failed. */
static unsigned int land_block(struct nt_ring *r)
{
	unsigned int name, failed = 0;
	int res;

	while (r->flying) {
		if (!nt_ring_reap(r, 90000, &name, &res))
			nt_die("%u reads did not end within 90 s", r->flying);
		failed += res < 0;
	}
	return failed;
}

/* Of each queue that a file can have: all that was written is read. */
static void read_by_files(struct life *l)
{
	struct nt_ring r;
	unsigned int i, k;
	int fd[FILES];
	__u32 region;

	nt_ring_open(&r, FLIGHT, IORING_SETUP_IOPOLL);
	for (i = 0; i < FILES; i++) {
		fd[i] = open(l->ns->dev.path, O_RDWR | O_CLOEXEC);
		if (fd[i] < 0)
			nt_fail("cannot open %s: %m", l->ns->dev.path);
		nt_status(nt_map(fd[i], 0, l->area.at, FLIGHT * LEN, &region),
			  0);
		memset(l->area.at, NT_POISON, FLIGHT * LEN);
		for (k = 0; k < FLIGHT; k++)
			put_read(&r, fd[i], l->ns, region, k, 0);
		nt_ring_submit(&r);
		nt_ring_land(&r);
		nt_same(l->area.at, l->want, FLIGHT * LEN);
	}
	nt_ring_close(&r);
	/* until here no two have one queue if there are as many */
	for (i = 0; i < FILES; i++)
		close(fd[i]);
}

#define PARAMETERS	"/sys/module/nvme/parameters"

/*
 * A reset after which the block layer has fewer queues: those of its polled
 * reads are queues of rings then, and the reads begin anew before it knows.
 */
static void run_fewer_queues(struct life *l)
{
	const char *node = strrchr(l->ns->dev.path, '/') + 1;
	unsigned char *mem = nt_alloc(FLIGHT * NT_PAGE, 0);
	unsigned int ctrl, nsid, delay, failed = 0;
	char path[300], target[300], queues[16];
	struct nt_ring r;
	ssize_t len;
	int fd;

	if (sscanf(node, "ng%un%u", &ctrl, &nsid) != 2)
		nt_fail("%s has no block device", node);
	snprintf(path, sizeof(path), "/sys/class/nvme-generic/%s/device", node);
	len = readlink(path, target, sizeof(target) - 1);
	target[len < 0 ? 0 : len] = '\0';
	if (strstr(target, "subsys"))
		nt_skip("reads of a multipath device may take another path");
	fd = open(PARAMETERS "/poll_queues", O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : read(fd, queues, sizeof(queues) - 1);
	if (len <= 0 || atoi(queues) <= 0)
		nt_skip("the block layer has no queues to poll");
	queues[len] = '\0';
	close(fd);
	snprintf(path, sizeof(path), "/dev/nvme%un%u", ctrl, nsid);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		nt_fail("cannot open %s: %m", path);
	nt_ring_open(&r, FLIGHT, IORING_SETUP_IOPOLL);
	/* they must be in flight when the controller is reset, and fail then */
	for (delay = 1000; !failed && delay <= 8000; delay *= 2) {
		delay_reads(l, delay);
		fly_block(&r, fd, mem);
		poke(PARAMETERS, "poll_queues", "0");
		reset(l);
		poke(PARAMETERS, "poll_queues", queues);
		delay_reads(l, 0);
		failed = land_block(&r);
		read_by_files(l);
		reset(l);
		read_by_files(l);
	}
	nt_ring_close(&r);
	close(fd);
	nt_eq(failed > 0, true);
}

static const struct one {
	const char *name;
	void (*run)(struct life *l);
	bool alone;	/* is about the controller that has the reads */
	bool once;	/* is not about the ring */
} cases[] = {
	{ "unmap", run_unmap, false, false },
	{ "unmap_many", run_unmap_many, false, true },
	{ "munmap", run_munmap, false, false },
	{ "ftruncate", run_ftruncate, false, false },
	{ "fork", run_fork, false, false },
	{ "close", run_close, false, false },
	{ "kill", run_kill, false, false },
	{ "exec", run_exec, false, false },
	{ "reset", run_reset, false, false },
	{ "reset_load", run_reset_load, false, false },
	{ "rescan_load", run_rescan_load, false, false },
	{ "format_load", run_format_load, false, false },
	{ "timeout", run_timeout, false, false },
	{ "timeout_dead", run_timeout_dead, true, false },
	{ "lost_queues", run_lost_queues, false, false },
	{ "fewer_queues", run_fewer_queues, true, true },
	{ "unbind", run_unbind, true, false },
	{ "unbind_map", run_unbind_map, true, false },
	{ "remove", run_remove, true, false },
	{ "surprise", run_surprise, true, false },
};

struct target {
	const struct one *one;
	struct life life;
};

/* NMIC: it may have another path, by which commands go on. */
static bool is_shared(const struct nt_ns *ns)
{
	unsigned char id[4096];

	nt_status(nt_identify(ns->dev.fd, NVME_ID_CNS_NS, 0, ns->nsid, id), 0);
	return id[30] & 1;
}

static void run(void *arg)
{
	struct target *t = arg;

	/* the controllers may have come back as others */
	reopen(t->life.ns);
	if (t->one->alone && is_shared(t->life.ns))
		nt_skip("the namespace is shared: another path remains");
	prepare(&t->life);
	t->one->run(&t->life);
	finish(&t->life);
}

static const char *only = "";

static bool option(const char *arg)
{
	if (strncmp(arg, "--only=", 7))
		return false;
	only = arg + 7;
	return true;
}

/* Run the cases that are wanted, or count them. */
static unsigned int each(struct nt_ns *ns, size_t n, bool really)
{
	unsigned int nr = 0;
	char name[128];
	size_t i, m, c;

	for (i = 0; i < n; i++) {
		for (m = 0; m < ARRAY_SIZE(modes); m++) {
			for (c = 0; c < ARRAY_SIZE(cases); c++) {
				struct target t = {
					.one = &cases[c],
					.life.ns = &ns[i],
					.life.mode = modes[m],
				};

				snprintf(name, sizeof(name), "%s %s %s",
					 ns[i].name, modes[m]->name,
					 cases[c].name);
				if ((cases[c].once && m) ||
				    !strstr(name, only))
					continue;
				nr++;
				if (!really)
					continue;
				nt_test(run, &t, "%s", name);
				inject(&ns[i], NULL);
			}
		}
	}
	return nr;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test the ends of regions and of what is in flight.",
		.wants = "test bed's NVM (512 B blocks without metadata)",
		.fits = is_plain_nvm,
		.usage = "  --only=TEXT  only cases with TEXT in the name",
		.option = option,
	};
	struct nt_ns *ns;
	size_t n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	nt_plan(each(ns, n, false));
	each(ns, n, true);
	return nt_end();
}
