// SPDX-License-Identifier: GPL-2.0
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nvme_test.h"

#ifndef IORING_URING_CMD_FIXED
#define IORING_URING_CMD_FIXED 1
#endif

#define CLASS_NS	"/sys/class/nvme-generic"
#define CLASS_CTRL	"/sys/class/nvme"

#define EXIT_FAIL	1
#define EXIT_USAGE	2
#define EXIT_SKIP	4

#define MAX_DEVICES	64
#define ARENA_SIZE	(16 << 20)

enum { PASS, FAIL, SKIP };

static const struct nt_prog *prog;
static const char *named[MAX_DEVICES];
static unsigned int nr_named;
static bool testbed;

static unsigned int planned, done, failed, skipped;
static unsigned int alone;	/* the only case to run, or 0 */
static unsigned int alone_as;	/* and its number in the output */
static const char *shuffle;	/* SEED,N */
static bool counting;		/* tell the number of cases and no more */
static char **arguments;
static sigjmp_buf end_of_case;
static bool in_case;
static char skip_reason[256];

static char *arena;
static size_t arena_used;

/* KTAP */

static void header(void)
{
	if (!getenv("KSFT_TAP_LEVEL"))
		puts("TAP version 13");
}

void nt_plan(unsigned int n)
{
	planned = n;
	if (alone)
		return;
	header();
	printf("1..%u\n", n);
	if (counting)
		exit(0);
}

void nt_note(const char *fmt, ...)
{
	va_list args;

	printf("# ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
}

void nt_skip_all(const char *fmt, ...)
{
	va_list args;

	header();
	printf("1..0 # SKIP ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	exit(EXIT_SKIP);
}

void nt_die(const char *fmt, ...)
{
	va_list args;

	printf(alone ? "# " : "Bail out! ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	exit(alone ? EXIT_USAGE : EXIT_FAIL);
}

static void __noreturn end_case(int result)
{
	if (!in_case)
		nt_die("a check failed outside of a case");
	siglongjmp(end_of_case, result);
}

void nt_fail(const char *fmt, ...)
{
	va_list args;

	printf("# ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	end_case(FAIL);
}

void nt_skip(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(skip_reason, sizeof(skip_reason), fmt, args);
	va_end(args);
	end_case(SKIP);
}

/* Run one case: PASS, FAIL or SKIP. */
static int run_case(void (*run)(void *arg), void *arg)
{
	int result;

	arena_used = 0;
	in_case = true;
	result = sigsetjmp(end_of_case, 0);
	if (!result)
		run(arg);
	in_case = false;
	return result;
}

/* Is the next case, with what is made for it, to be left out? */
bool nt_pass_over(void)
{
	if (!alone || done + 1 == alone)
		return false;
	done++;
	return true;
}

void nt_test(void (*run)(void *arg), void *arg, const char *fmt, ...)
{
	char name[256];
	va_list args;

	if (nt_pass_over())
		return;
	va_start(args, fmt);
	vsnprintf(name, sizeof(name), fmt, args);
	va_end(args);

	done = alone ? alone_as : done + 1;
	switch (run_case(run, arg)) {
	case PASS:
		printf("ok %u %s\n", done, name);
		break;
	case SKIP:
		skipped++;
		printf("ok %u %s # SKIP %s\n", done, name, skip_reason);
		break;
	default:
		failed++;
		printf("not ok %u %s\n", done, name);
	}
	if (alone)
		exit(failed ? EXIT_FAIL : skipped ? EXIT_SKIP : 0);
}

int nt_end(void)
{
	if (alone)
		nt_die("there are %u cases", done);
	nt_note("%u passed, %u failed, %u skipped", done - failed - skipped,
		failed, skipped);
	if (done != planned) {
		nt_note("%u cases were planned, %u were run", planned, done);
		return EXIT_FAIL;
	}
	if (failed)
		return EXIT_FAIL;
	return skipped == done ? EXIT_SKIP : 0;
}

/* The program once more, for what @what says, with its output in @out. */
static pid_t run_again(const char *what, int out)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		dup2(out, STDOUT_FILENO);
		setenv("NVME_TEST_CASE", what, 1);
		execv("/proc/self/exe", arguments);
		_exit(EXIT_USAGE);
	}
	if (pid < 0)
		nt_die("cannot run the program again: %m");
	return pid;
}

/* How many cases are there? */
static unsigned int count_cases(void)
{
	unsigned int n = 0;
	char line[256];
	int fds[2];
	FILE *f;

	if (pipe2(fds, O_CLOEXEC))
		nt_die("pipe: %m");
	run_again("count", fds[1]);
	close(fds[1]);
	f = fdopen(fds[0], "r");
	if (!f)
		nt_die("fdopen: %m");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "1..%u", &n) == 1)
			break;
	fclose(f);
	wait(NULL);
	return n;
}

static int run_alone(unsigned int number, unsigned int as)
{
	char what[32];
	int status;
	pid_t pid;

	snprintf(what, sizeof(what), "%u,%u", number, as);
	pid = run_again(what, STDOUT_FILENO);
	if (waitpid(pid, &status, 0) != pid)
		nt_die("waitpid: %m");
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_USAGE;
}

/*
 * Cases in an order that a seed decides, each in a process of its own: one that
 * needs what another left behind fails.
 */
static void __noreturn run_shuffled(unsigned int n)
{
	unsigned int *order, most = n, i, j, old;
	unsigned long long seed;
	__u64 state;

	if (sscanf(shuffle, "%llu,%u", &seed, &most) < 1)
		nt_die("NVME_TEST_SHUFFLE is SEED or SEED,MOST");
	state = seed;
	nt_plan(most < n ? most : n);
	nt_note("NVME_TEST_SHUFFLE=%s: %u of %u cases", shuffle, planned, n);
	order = calloc(n + 1, sizeof(*order));
	if (!order)
		nt_die("no memory");
	for (i = 0; i < n; i++) {
		/* a random one of those before it changes places with it */
		j = nt_random(&state) % (i + 1);
		old = order[j];
		order[j] = i + 1;
		if (j != i)
			order[i] = old;
	}
	for (done = 0; done < planned;) {
		i = order[done++];
		switch (run_alone(i, done)) {
		case 0:
			break;
		case EXIT_SKIP:
			skipped++;
			break;
		case EXIT_FAIL:
			failed++;
			nt_note("that was NVME_TEST_CASE=%u", i);
			break;
		default:
			failed++;
			printf("not ok %u NVME_TEST_CASE=%u did not come to its end\n",
			       done, i);
		}
	}
	exit(nt_end());
}

/* Checks */

void nt_eq_at(const char *file, int line, const char *what,
	      unsigned long long got, unsigned long long want)
{
	if (got != want)
		nt_fail("%s:%d: %s: got %llu (%#llx), expected %llu (%#llx)",
			file, line, what, got, got, want, want);
}

static const char *status_text(int status, char *text, size_t size)
{
	if (status < 0)
		snprintf(text, size, "errno %d (%s)", -status,
			 strerror(-status));
	else
		snprintf(text, size, "status %xh/%02xh", status >> 8,
			 status & 0xff);
	return text;
}

void nt_status_at(const char *file, int line, const char *what, int got,
		  int want)
{
	char a[80], b[80];

	if (got != want)
		nt_fail("%s:%d: %s: got %s, expected %s", file, line, what,
			status_text(got, a, sizeof(a)),
			status_text(want, b, sizeof(b)));
}

void nt_same_at(const char *file, int line, const char *what, const void *got,
		const void *want, size_t n)
{
	const unsigned char *a = got, *b = want;
	size_t i;

	for (i = 0; i < n; i++)
		if (a[i] != b[i])
			nt_fail("%s:%d: %s: byte %zu of %zu: got %02x, expected %02x",
				file, line, what, i, n, a[i], b[i]);
}

/* Memory */

void *nt_alloc(size_t size, size_t page_offset)
{
	size_t len = (page_offset + size + 2 * NT_PAGE - 1) & -NT_PAGE;
	char *at;

	if (!arena) {
		arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (arena == MAP_FAILED)
			nt_die("cannot allocate %d bytes: %m", ARENA_SIZE);
	}
	at = arena + arena_used;
	arena_used += len;
	if (arena_used > ARENA_SIZE)
		nt_die("a case wants more than %d bytes", ARENA_SIZE);
	memset(at, NT_POISON, len);
	return at + page_offset;
}

/* splitmix64 */
__u64 nt_random(__u64 *state)
{
	__u64 x = *state += 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

void nt_fill(void *data, size_t len, __u64 seed)
{
	unsigned char *p = data;
	__u64 x;

	for (; len > sizeof(x); len -= sizeof(x), p += sizeof(x)) {
		x = nt_random(&seed);
		memcpy(p, &x, sizeof(x));
	}
	x = nt_random(&seed);
	memcpy(p, &x, len);
}

/* Devices */

/* First line of a file in sysfs without the blanks at its end. */
static bool read_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "r");
	size_t len;
	bool ok;

	if (!f)
		return false;
	ok = fgets(line, size, f);
	fclose(f);
	if (!ok)
		return false;
	len = strlen(line);
	while (len && (line[len - 1] == '\n' || line[len - 1] == ' '))
		line[--len] = '\0';
	return true;
}

/* Serial number of what is at that place in sysfs, or of its parent. */
bool nt_serial(const char *sysfs, char *serial, size_t size)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/serial", sysfs);
	if (read_line(path, serial, size))
		return true;
	snprintf(path, sizeof(path), "%s/device/serial", sysfs);
	return read_line(path, serial, size);
}

/*
 * The safety rule: without a name from the caller nothing is opened unless its
 * serial number says that it is one of the test bed's.
 */
static bool is_ours(const char *serial)
{
	if (prog->serial)
		return !strncmp(serial, prog->serial, strlen(prog->serial));
	return !strcmp(serial, "NVMENG-A") || !strcmp(serial, "NVMENG-B");
}

/* Is it a device of that class? */
static bool in_class(const char *sysfs, const char *class)
{
	char path[600], real[PATH_MAX], want[PATH_MAX];

	snprintf(path, sizeof(path), "%s/subsystem", sysfs);
	return realpath(path, real) && realpath(class, want) &&
	       !strcmp(real, want);
}

void nt_open(struct nt_dev *dev, const char *path)
{
	char link[64], real[PATH_MAX];
	struct stat st;

	memset(dev, 0, sizeof(*dev));
	snprintf(dev->path, sizeof(dev->path), "%s", path);
	if (stat(path, &st))
		nt_die("%s: %m", path);
	if (!S_ISCHR(st.st_mode))
		nt_die("%s is not a character device: name /dev/ngXnY or /dev/nvmeX",
		       path);
	snprintf(link, sizeof(link), "/sys/dev/char/%u:%u", major(st.st_rdev),
		 minor(st.st_rdev));
	if (!realpath(link, real) || strlen(real) >= sizeof(dev->sysfs))
		nt_die("%s: no device at %s", path, link);
	memcpy(dev->sysfs, real, strlen(real) + 1);
	if (!in_class(real, CLASS_NS) && !in_class(real, CLASS_CTRL))
		nt_die("%s is not an NVMe device: name /dev/ngXnY or /dev/nvmeX",
		       path);
	if (!nt_serial(real, dev->serial, sizeof(dev->serial)))
		nt_die("%s: no serial number in sysfs", path);
	dev->fd = open(path, O_RDWR | O_CLOEXEC);
	if (dev->fd < 0) {
		if (errno == EACCES || errno == EPERM)
			nt_skip_all("cannot open %s: run as root", path);
		nt_die("cannot open %s: %m", path);
	}
}

void nt_close(struct nt_dev *dev)
{
	if (dev->has_ring)
		io_uring_queue_exit(&dev->ring);
	dev->has_ring = false;
	close(dev->fd);
}

/* Paths of the devices of a class that the program may open. */
static size_t may_open(const char *class, char paths[][64])
{
	size_t n = 0, len;
	DIR *dir = opendir(class);
	char sysfs[600], serial[64];
	struct dirent *e;
	unsigned int i;

	for (i = 0; i < nr_named; i++) {
		struct stat st;

		if (!stat(named[i], &st)) {
			snprintf(sysfs, sizeof(sysfs), "/sys/dev/char/%u:%u",
				 major(st.st_rdev), minor(st.st_rdev));
			if (S_ISCHR(st.st_mode) && in_class(sysfs, CLASS_NS) !=
			    !strcmp(class, CLASS_NS))
				continue;
		}
		snprintf(paths[n++], 64, "%s", named[i]);
	}
	while (!nr_named && dir && n < MAX_DEVICES) {
		e = readdir(dir);
		if (!e)
			break;
		if (e->d_name[0] == '.')
			continue;
		snprintf(sysfs, sizeof(sysfs), "%s/%s", class, e->d_name);
		if (!nt_serial(sysfs, serial, sizeof(serial)) ||
		    !is_ours(serial))
			continue;
		len = strlen(e->d_name);
		if (len + 6 > 64)
			continue;
		memcpy(paths[n], "/dev/", 5);
		memcpy(paths[n++] + 5, e->d_name, len + 1);
	}
	if (dir)
		closedir(dir);
	return n;
}

/* Parent in sysfs: a controller, or the subsystem of a multipath head. */
static bool parent(const char *sysfs, char *real)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/device", sysfs);
	return realpath(path, real);
}

/* Is the node one of the controller's, or of its subsystem's heads? */
static bool belongs(const char *node, const char *ctrl)
{
	char up[PATH_MAX], path[PATH_MAX + 300], real[PATH_MAX];

	if (!parent(node, up))
		return false;
	if (!strcmp(up, ctrl))
		return true;
	snprintf(path, sizeof(path), "%s%s", up, strrchr(ctrl, '/'));
	return realpath(path, real) && !strcmp(real, ctrl);
}

/* The character device of a namespace of this controller. */
bool nt_find_node(const struct nt_dev *ctrl, __u32 nsid, struct nt_dev *node)
{
	DIR *dir = opendir(CLASS_NS);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		char sysfs[600], path[300];

		snprintf(sysfs, sizeof(sysfs), "%s/%s", CLASS_NS, e->d_name);
		if (e->d_name[0] == '.' || !belongs(sysfs, ctrl->sysfs))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		nt_open(node, path);
		if (ioctl(node->fd, NVME_IOCTL_ID) == (int)nsid) {
			closedir(dir);
			return true;
		}
		nt_close(node);
	}
	if (dir)
		closedir(dir);
	return false;
}

/* Is the namespace one of this controller's?  Only sysfs is asked. */
static bool has_namespace(const char *ctrl, __u32 nsid)
{
	DIR *dir = opendir(ctrl);
	struct dirent *e;
	bool found = false;

	while (dir && !found && (e = readdir(dir))) {
		char path[PATH_MAX + 300], line[16];

		snprintf(path, sizeof(path), "%s/%s/nsid", ctrl, e->d_name);
		found = e->d_name[0] != '.' &&
			read_line(path, line, sizeof(line)) &&
			strtoul(line, NULL, 10) == nsid;
	}
	if (dir)
		closedir(dir);
	return found;
}

/* A controller that has the namespace. */
static void open_ctrl(const struct nt_dev *node, __u32 nsid,
		      struct nt_dev *ctrl)
{
	char sysfs[600], real[PATH_MAX], path[300];
	DIR *dir = opendir(CLASS_CTRL);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		snprintf(sysfs, sizeof(sysfs), "%s/%s", CLASS_CTRL, e->d_name);
		if (e->d_name[0] == '.' || !realpath(sysfs, real) ||
		    !belongs(node->sysfs, real) || !has_namespace(real, nsid))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		nt_open(ctrl, path);
		closedir(dir);
		return;
	}
	nt_die("%s: no controller in sysfs", node->path);
}

/* What Identify says about the namespace. */
static void describe(struct nt_ns *ns)
{
	unsigned char id[4096];
	unsigned int format;
	int ret;

	ret = nt_identify(ns->ctrl.fd, NVME_ID_CNS_CTRL, 0, 0, id);
	if (ret)
		nt_die("%s: Identify Controller: %d", ns->ctrl.path, ret);
	/* in units of CAP.MPSMIN, which is 4 KiB wherever Linux runs */
	ns->mdts = id[77] ? NT_PAGE << id[77] : 0;

	ret = nt_csi(ns->dev.fd, ns->nsid, &ns->csi);
	if (ret)
		nt_die("%s: Identify, namespace descriptors: %d",
		       ns->dev.path, ret);
	if (ns->csi == NVME_CSI_KV) {
		ret = nt_identify(ns->dev.fd, NVME_ID_CNS_CS_NS, NVME_CSI_KV,
				  ns->nsid, id);
		if (ret)
			nt_die("%s: Identify Namespace, CSI 1: %d",
			       ns->dev.path, ret);
		ns->nsze = nt_le64(id);
	}
	if (ns->csi != NVME_CSI_NVM && ns->csi != NVME_CSI_ZNS)
		return;
	ret = nt_identify(ns->dev.fd, NVME_ID_CNS_NS, 0, ns->nsid, id);
	if (ret)
		nt_die("%s: Identify Namespace: %d", ns->dev.path, ret);
	format = id[26] & 0xf;
	if (id[25] > 15)
		format |= (id[26] & 0x60) >> 1;
	ns->nsze = nt_le64(id);
	ns->ms = nt_le16(id + 128 + format * 4);
	ns->lba_size = 1U << id[128 + format * 4 + 2];
	ns->extended = ns->ms && id[26] & 0x10;
	ns->pi = id[29] & 0x7;
}

void nt_open_ns(struct nt_ns *ns, const char *path)
{
	char serial[sizeof(ns->dev.serial)];

	memset(ns, 0, sizeof(*ns));
	nt_open(&ns->dev, path);
	ns->nsid = ioctl(ns->dev.fd, NVME_IOCTL_ID);
	memcpy(serial, ns->dev.serial, sizeof(serial));
	snprintf(ns->name, sizeof(ns->name), "%s/%u", serial, ns->nsid);
	ns->testbed = !strncmp(serial, "NVMENG-", 7);
	open_ctrl(&ns->dev, ns->nsid, &ns->ctrl);
	describe(ns);
}

void nt_close_ns(struct nt_ns *ns)
{
	nt_close(&ns->dev);
	nt_close(&ns->ctrl);
}

static int by_name(const void *a, const void *b)
{
	const struct nt_ns *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* The namespaces that the program wants and may use, in a fixed order. */
struct nt_ns *nt_namespaces(size_t *n)
{
	static struct nt_ns list[MAX_DEVICES];
	char paths[MAX_DEVICES][64];
	size_t i, count = may_open(CLASS_NS, paths);

	*n = 0;
	for (i = 0; i < count; i++) {
		struct nt_ns *ns = &list[*n];

		nt_open_ns(ns, paths[i]);
		if (prog->fits && !prog->fits(ns)) {
			nt_close_ns(ns);
			continue;
		}
		++*n;
	}
	qsort(list, *n, sizeof(*list), by_name);
	if (*n)
		return list;
	if (testbed)
		nt_die("the test bed has no %s namespace with a node",
		       prog->wants);
	nt_skip_all("no %s namespace among the devices named", prog->wants);
}

/* The controllers that the program may use. */
struct nt_dev *nt_controllers(size_t *n)
{
	static struct nt_dev list[MAX_DEVICES];
	char paths[MAX_DEVICES][64];
	size_t i;

	*n = may_open(CLASS_CTRL, paths);
	for (i = 0; i < *n; i++)
		nt_open(&list[i], paths[i]);
	if (*n)
		return list;
	if (testbed)
		nt_die("the test bed has no controller %s",
		       prog->serial ? prog->serial : "NVMENG-A or NVMENG-B");
	nt_skip_all("no controller (/dev/nvmeX) among the devices named");
}

/*
 * Run in another process, whose exit status is 0 if all its checks passed.  The
 * caller waits for it.
 */
pid_t nt_fork(void (*run)(void *arg), void *arg)
{
	pid_t pid;
	int result;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		nt_die("fork: %m");
	if (pid)
		return pid;
	result = run_case(run, arg);
	if (result == SKIP)
		nt_note("%s", skip_reason);
	fflush(stdout);
	_exit(result);
}

struct as {
	uid_t uid;
	void (*run)(void *arg);
	void *arg;
};

static void become_and_run(void *arg)
{
	const struct as *as = arg;
	uid_t uid = as->uid;

	if (setgroups(0, NULL) || setresgid(uid, uid, uid) ||
	    setresuid(uid, uid, uid))
		nt_fail("cannot become uid %u: %m", uid);
	as->run(as->arg);
}

/* Run as another user; checks in there end the case out here. */
void nt_as(uid_t uid, void (*run)(void *arg), void *arg)
{
	struct as as = { uid, run, arg };
	pid_t pid = nt_fork(become_and_run, &as);
	int status;

	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		nt_fail("the process of uid %u died", uid);
	if (WEXITSTATUS(status) == SKIP)
		nt_skip("as uid %u, see above", uid);
	if (WEXITSTATUS(status) != PASS)
		nt_fail("failed as uid %u", uid);
}

struct open_as {
	const char *path;
	int flags;
	int fd;
};

/*
 * Open the device as its owner would who is not root: through a node of its
 * own, so that the real one keeps its owner and mode.  The caller is root.
 */
int nt_open_as(const struct nt_dev *dev, uid_t uid, int flags)
{
	char dir[] = "/dev/nvme-test-XXXXXX", path[64];
	struct stat st;
	int fd, saved;

	if (stat(dev->path, &st))
		nt_die("%s: %m", dev->path);
	if (!mkdtemp(dir))
		nt_die("cannot make a directory in /dev: %m");
	snprintf(path, sizeof(path), "%s/node", dir);
	if (chmod(dir, 0755) || mknod(path, S_IFCHR | 0600, st.st_rdev) ||
	    chown(path, uid, uid))
		nt_die("cannot make %s: %m", path);
	if (setegid(uid) || seteuid(uid))
		nt_die("cannot become uid %u: %m", uid);
	fd = open(path, flags | O_CLOEXEC);
	saved = errno;
	if (seteuid(0) || setegid(0))
		nt_die("cannot become root again: %m");
	unlink(path);
	rmdir(dir);
	return fd < 0 ? -saved : fd;
}

/* Commands */

static int one_status(int ret)
{
	return ret < 0 ? ret : ret & NVME_SC_MASK;
}

int nt_dev_ioctl(int fd, unsigned long op, const struct nvme_uring_cmd *cmd,
		 __u64 *result)
{
	struct nvme_passthru_cmd64 c = { 0 };
	int ret;

	/* the same without the result, which comes last */
	_Static_assert(sizeof(*cmd) == offsetof(typeof(c), result),
		       "struct nvme_uring_cmd has another layout");
	memcpy(&c, cmd, sizeof(*cmd));
	ret = ioctl(fd, op, &c);
	if (ret < 0)
		return -errno;
	if (result)
		*result = c.result;
	return one_status(ret);
}

int nt_dev_uring(struct nt_dev *dev, __u32 op, unsigned int form,
		 const struct nvme_uring_cmd *cmd, __u64 *result)
{
	struct __kernel_timespec timeout = { .tv_sec = 60 };
	static __u64 cookie = 0x4e564d65;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	int ret;

	if (!dev->has_ring) {
		ret = io_uring_queue_init(8, &dev->ring, IORING_SETUP_SQE128 |
					  IORING_SETUP_CQE32);
		if (ret)
			nt_die("io_uring_setup: %s", strerror(-ret));
		dev->has_ring = true;
	}
	sqe = io_uring_get_sqe(&dev->ring);
	if (!sqe)
		nt_die("%s: the ring is full", dev->path);
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = dev->fd;
	sqe->cmd_op = op;
	sqe->user_data = ++cookie;
	/* its place is called uring_cmd_flags in newer headers */
	sqe->rw_flags = form & NT_FIXED ? IORING_URING_CMD_FIXED : 0;
	memcpy(sqe->cmd, cmd, sizeof(*cmd));

	ret = io_uring_submit(&dev->ring);
	if (ret != 1)
		nt_die("io_uring_submit: %s", strerror(-ret));
	ret = io_uring_wait_cqe_timeout(&dev->ring, &cqe, &timeout);
	if (ret)
		nt_die("%s: opcode %02xh: no completion within 60 s: %s",
		       dev->path, cmd->opcode, strerror(-ret));
	if (cqe->user_data != cookie)
		nt_die("%s: opcode %02xh: completion of another command",
		       dev->path, cmd->opcode);
	ret = cqe->res;
	if (result)
		*result = cqe->big_cqe[0];
	io_uring_cqe_seen(&dev->ring, cqe);
	if (io_uring_cq_ready(&dev->ring))
		nt_die("%s: opcode %02xh: completed twice", dev->path,
		       cmd->opcode);
	return one_status(ret);
}

/*
 * The test bed counts what the device moves beyond the length that a command
 * declares in a field which its command set reserves.  With protection
 * information these fields may hold part of a tag.
 */
static void declare_length(const struct nt_ns *ns, unsigned int form,
			   struct nvme_uring_cmd *cmd)
{
	const struct iovec *vec = (void *)(uintptr_t)cmd->addr;
	__u32 i, len = cmd->data_len;

	if (!ns->testbed || ns->pi)
		return;
	if (form & NT_VEC)
		for (len = 0, i = 0; i < cmd->data_len; i++)
			len += vec[i].iov_len;
	if (ns->csi == NVME_CSI_KV) {
		cmd->cdw12 = len;
		return;
	}
	cmd->cdw3 = len;
	cmd->cdw2 = cmd->metadata_len;
}

int nt_io_form(struct nt_ns *ns, enum nt_via via, unsigned int form,
	       struct nvme_uring_cmd *cmd, __u64 *result)
{
	cmd->nsid = ns->nsid;
	declare_length(ns, form, cmd);
	if (via == NT_IOCTL)
		return nt_dev_ioctl(ns->dev.fd, form & NT_VEC ?
				    NVME_IOCTL_IO64_CMD_VEC :
				    NVME_IOCTL_IO64_CMD, cmd, result);
	return nt_dev_uring(&ns->dev, form & NT_VEC ? NVME_URING_CMD_IO_VEC :
			    NVME_URING_CMD_IO, form, cmd, result);
}

int nt_io(struct nt_ns *ns, enum nt_via via, struct nvme_uring_cmd *cmd,
	  __u64 *result)
{
	return nt_io_form(ns, via, 0, cmd, result);
}

/* Admin commands go by io_uring to the controller, by ioctl to the node. */
int nt_admin(struct nt_ns *ns, enum nt_via via, struct nvme_uring_cmd *cmd,
	     __u64 *result)
{
	if (via == NT_IOCTL)
		return nt_dev_ioctl(ns->dev.fd, NVME_IOCTL_ADMIN64_CMD, cmd,
				    result);
	return nt_dev_uring(&ns->ctrl, NVME_URING_CMD_ADMIN, 0, cmd, result);
}

int nt_identify(int fd, __u8 cns, __u8 csi, __u32 nsid, void *data)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.nsid = nsid,
		.addr = (uintptr_t)data,
		.data_len = 4096,
		.cdw10 = cns,
		.cdw11 = (__u32)csi << 24,
	};

	return nt_dev_ioctl(fd, NVME_IOCTL_ADMIN64_CMD, &cmd, NULL);
}

/* The command set of a namespace, from its identification descriptors. */
int nt_csi(int fd, __u32 nsid, __u8 *csi)
{
	unsigned char list[4096];
	unsigned int at;
	int ret;

	ret = nt_identify(fd, NVME_ID_CNS_NS_DESC_LIST, 0, nsid, list);
	*csi = NVME_CSI_NVM;
	for (at = 0; !ret && at + 4 < sizeof(list) && list[at + 1];
	     at += 4 + list[at + 1])
		if (list[at] == 4)
			*csi = list[at + 4];
	return ret;
}

/* What the Commands Supported and Effects log says about I/O commands. */
int nt_effects(int fd, __u8 csi, __u32 *iocs)
{
	unsigned char log[4096];
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_GET_LOG,
		.nsid = 0xffffffff,
		.addr = (uintptr_t)log,
		.data_len = sizeof(log),
		.cdw10 = 0x05 | (sizeof(log) / 4 - 1) << 16,
		.cdw14 = (__u32)csi << 24,
	};
	unsigned int i;
	int ret;

	ret = nt_dev_ioctl(fd, NVME_IOCTL_ADMIN64_CMD, &cmd, NULL);
	for (i = 0; !ret && i < 256; i++)
		iocs[i] = nt_le32(log + 1024 + 4 * i);
	return ret;
}

/* Skip the case where the device does not have that optional command. */
void nt_need_opcode(struct nt_ns *ns, __u8 opcode, const char *name)
{
	__u32 iocs[256];
	int ret;

	ret = nt_effects(ns->ctrl.fd, ns->csi, iocs);
	nt_status(ret, NVME_SC_SUCCESS);
	if (!(iocs[opcode] & 1))
		nt_skip("the device has no %s", name);
}

/* Read, Write, Compare, Zone Append: with a block range and data. */
int nt_rw(struct nt_ns *ns, enum nt_via via, __u8 opcode, __u64 lba,
	  unsigned int blocks, void *data, void *metadata, __u64 *result)
{
	struct nvme_uring_cmd cmd = {
		.opcode = opcode,
		.addr = (uintptr_t)data,
		.data_len = blocks * (ns->lba_size +
				      (ns->extended ? ns->ms : 0)),
		.cdw10 = lba,
		.cdw11 = lba >> 32,
		.cdw12 = blocks - 1,
	};

	if (metadata) {
		cmd.metadata = (uintptr_t)metadata;
		cmd.metadata_len = blocks * ns->ms;
	}
	return nt_io(ns, via, &cmd, result);
}

/* Key Value */

int nt_kv(struct nt_ns *ns, enum nt_via via, __u8 opcode, __u8 option,
	  const struct nt_key *key, void *data, __u32 len, __u64 *result)
{
	struct nvme_uring_cmd cmd = {
		.opcode = opcode,
		.cdw2 = nt_le32(key->bytes),
		.cdw3 = nt_le32(key->bytes + 4),
		.addr = (uintptr_t)data,
		.data_len = len,
		.cdw10 = len,
		.cdw11 = key->len | option << 8,
		.cdw14 = nt_le32(key->bytes + 8),
		.cdw15 = nt_le32(key->bytes + 12),
	};

	return nt_io(ns, via, &cmd, result);
}

/* The keys in the order of the device, by as many commands as it takes. */
unsigned int nt_kv_list(struct nt_ns *ns, enum nt_via via,
			const struct nt_key *from, struct nt_key *keys,
			unsigned int max)
{
	struct nt_key start = from ? *from : (struct nt_key){ 0 };
	unsigned int i, at, count, n = 0;
	unsigned char list[4096];

	for (;;) {
		nt_status(nt_kv(ns, via, NVME_CMD_KV_LIST, 0, &start, list,
				sizeof(list), NULL), NVME_SC_SUCCESS);
		count = nt_le32(list);
		for (i = 0, at = 4; i < count; i++) {
			struct nt_key key = { .len = nt_le16(list + at) };

			if (at + 2 + key.len > sizeof(list) || !key.len ||
			    key.len > sizeof(key.bytes))
				nt_fail("List: entry %u of %u has length %u",
					i, count, nt_le16(list + at));
			memcpy(key.bytes, list + at + 2, key.len);
			at += (2 + key.len + 3) & ~3U;
			/* the last one of the list before starts the next */
			if (i == 0 && n && !memcmp(&key, &start, sizeof(key)))
				continue;
			if (n == max)
				nt_fail("List: more than %u keys", max);
			keys[n++] = key;
		}
		if (at + 20 <= sizeof(list))
			return n;
		start = keys[n - 1];
	}
}

void nt_kv_empty(struct nt_ns *ns, enum nt_via via)
{
	static struct nt_key keys[4096];
	unsigned int i, n = nt_kv_list(ns, via, NULL, keys, ARRAY_SIZE(keys));

	for (i = 0; i < n; i++)
		nt_status(nt_kv(ns, via, NVME_CMD_KV_DELETE, 0, &keys[i], NULL,
				0, NULL), NVME_SC_SUCCESS);
}

/* Programs */

static void help(const char *name)
{
	printf("usage: %s [--testbed] %s[DEVICE...]\n\n%s\n\n",
	       name, prog->usage ? "[OPTION] " : "", prog->what);
	if (prog->usage)
		printf("%s\n", prog->usage);
	puts("  --testbed  use the devices of the nvme-ng test bed, whose serial\n"
	     "             numbers begin with NVMENG-; also NVME_TESTBED=1\n"
	     "  DEVICE     /dev/ngXnY or /dev/nvmeX to use instead, ALL DATA ON IT\n"
	     "             IS LOST; also NVME_TEST_DEV=\"DEVICE...\"\n"
	     "\n"
	     "NVME_TEST_SHUFFLE=SEED,N: at most N cases in random order, each in a\n"
	     "process of its own; NVME_TEST_CASE=N: only case N\n"
	     "\n"
	     "Without any of these no device is touched.\n"
	     "exit status: 0 passed, 1 failed, 2 wrong usage, 4 skipped");
}

static void name_device(const char *path)
{
	if (nr_named == MAX_DEVICES)
		nt_die("more than %d devices named", MAX_DEVICES);
	named[nr_named++] = path;
}

void nt_init(int argc, char **argv, const struct nt_prog *program)
{
	const char *env, *env_case;
	char *word;
	int i;

	prog = program;
	arguments = argv;
	shuffle = getenv("NVME_TEST_SHUFFLE");
	env_case = getenv("NVME_TEST_CASE");
	counting = env_case && !strcmp(env_case, "count");
	if (env_case && sscanf(env_case, "%u,%u", &alone, &alone_as) == 1)
		alone_as = 1;
	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			help(argv[0]);
			exit(0);
		} else if (!strcmp(argv[i], "--testbed")) {
			testbed = true;
		} else if (argv[i][0] != '-') {
			name_device(argv[i]);
		} else if (!prog->option || !prog->option(argv[i])) {
			fprintf(stderr, "%s: unknown option %s (see --help)\n",
				argv[0], argv[i]);
			exit(EXIT_USAGE);
		}
	}
	env = getenv("NVME_TEST_DEV");
	if (!nr_named && !testbed && env)
		for (word = strtok(strdup(env), " "); word;
		     word = strtok(NULL, " "))
			name_device(word);
	env = getenv("NVME_TESTBED");
	if (!nr_named && env && !strcmp(env, "1"))
		testbed = true;
	if (nr_named)
		testbed = false;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!nr_named && !testbed)
		nt_skip_all("no device named: set NVME_TEST_DEV=/dev/ngXnY (loses its data)");
	/* before anything is made: the other processes want as much */
	if (shuffle && !env_case) {
		unsigned int n = count_cases();

		/* without any the program says why */
		if (n)
			run_shuffled(n);
	}
}

const char *nt_via_name(enum nt_via via)
{
	return via == NT_URING ? "uring" : "ioctl";
}

struct one_run {
	const struct nt_case *c;
	struct nt_ns *ns;
	enum nt_via via;
};

static void run_one(void *arg)
{
	struct one_run *r = arg;

	r->c->run(r->ns, r->via);
}

/* Every case on every namespace that fits, each way to send commands. */
int nt_run(int argc, char **argv, const struct nt_prog *program,
	   const struct nt_case *cases, size_t n)
{
	struct one_run r;
	struct nt_ns *ns;
	size_t i, j, count;

	nt_init(argc, argv, program);
	ns = nt_namespaces(&count);
	nt_plan(count * NT_VIAS * n);
	for (i = 0; i < count; i++) {
		nt_note("%s is %s", ns[i].name, ns[i].dev.path);
		for (r.via = 0; r.via < NT_VIAS; r.via++) {
			for (j = 0; j < n; j++) {
				r.ns = &ns[i];
				r.c = &cases[j];
				nt_test(run_one, &r, "%s %s %s", ns[i].name,
					nt_via_name(r.via), cases[j].name);
			}
		}
	}
	return nt_end();
}
