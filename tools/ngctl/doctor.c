// SPDX-License-Identifier: GPL-2.0
/* ngctl doctor: what stands in the way, and what to do. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ngctl.h"

static unsigned int problems;

/* One result: what is so, and what to do if that is a problem. */
__printf(2, 3) static void tell(const char *remedy, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (remedy)
		problems++;
	if (json) {
		json_open(NULL, '{');
		json_bool("ok", !remedy);
		json_string("text", text);
		if (remedy)
			json_string("remedy", remedy);
		json_close();
	} else if (remedy) {
		printf("PROBLEM  %s\n         %s\n", text, remedy);
	} else {
		printf("ok       %s\n", text);
	}
}

static bool found_ours;

static int is_ours(const char *path, const struct stat *st, int type,
		   struct FTW *at)
{
	(void)st;
	if (type == FTW_F && !strncmp(path + at->base, "nvme-core.ko", 12))
		found_ours = true;
	return found_ours;
}

/* Has a module in the place of the kernel's own been built for this kernel? */
static bool is_built(void)
{
	char dir[256];
	struct utsname name;

	uname(&name);
	snprintf(dir, sizeof(dir), "/lib/modules/%s/updates", name.release);
	found_ours = false;
	nftw(dir, is_ours, 8, FTW_PHYS);
	return found_ours;
}

static bool only_signed(void)
{
	char line[64];

	return (read_line(line, sizeof(line),
			  "/sys/module/module/parameters/sig_enforce") &&
		*line == 'Y') ||
	       (read_line(line, sizeof(line), "/sys/kernel/security/lockdown") &&
		!strstr(line, "[none]"));
}

static void look_at_driver(void)
{
	char other[64];
	const char *version = driver_version();

	if (access("/sys/module/nvme_core", F_OK)) {
		tell("load it: modprobe nvme", "no NVMe driver is loaded");
		return;
	}
	if (driver_is_ours()) {
		tell(NULL, "the driver is %s", driver_name());
		if (read_line(other, sizeof(other), "/sys/module/nvme/version") &&
		    strcmp(other, version))
			tell("load both from one build: reboot",
			     "nvme_core is version %s, but nvme is %s", version,
			     other);
		return;
	}
	/* a part of the kernel has no state */
	if (access("/sys/module/nvme_core/initstate", F_OK))
		tell("boot a kernel in which CONFIG_BLK_DEV_NVME is m",
		     "the driver is the kernel's own and built in: nvme-ng cannot take its place");
	else if (is_built() && only_signed())
		tell("enrol the key: mokutil --import /var/lib/dkms/mok.pub, reboot, dpkg-reconfigure nvme-ng-dkms, reboot",
		     "the driver is the kernel's own: only signed modules are loaded here");
	else if (is_built())
		tell("reboot; if it is still so, look for 'nvme-ng' in the kernel log",
		     "the driver is the kernel's own, although nvme-ng was built for this kernel");
	else if (!access("/usr/lib/nvme-ng/kernels", X_OK))
		tell("run /usr/lib/nvme-ng/kernels as root: it says why, then reboot",
		     "the driver is the kernel's own: nvme-ng is installed, but not built for this kernel");
	else
		tell("install nvme-ng-dkms, then reboot",
		     "the driver is the kernel's own: without limits, regions, and nodes that everyone can be let use");
}

static void look_at_ring(void)
{
	struct io_uring ring;
	int ret = nvmeng_ring_init(1, &ring, 0);

	if (ret) {
		tell(nvmeng_explain(NVMENG_RING, ret), "no ring can be set up: %s",
		     strerror(-ret));
		return;
	}
	io_uring_queue_exit(&ring);
	tell(NULL, "io_uring can be used");
}

/* PCIe devices of the class NVM Express: does the driver have them? */
static void look_at_pci(void)
{
	static const char dir[] = "/sys/bus/pci/devices";
	DIR *stream = opendir(dir);
	struct dirent *entry;

	while (stream && (entry = readdir(stream))) {
		char line[32], path[512], driver[256];
		ssize_t len;

		if (entry->d_name[0] == '.' ||
		    !read_line(line, sizeof(line), "%s/%s/class", dir,
			       entry->d_name) || strcmp(line, "0x010802"))
			continue;
		snprintf(path, sizeof(path), "%s/%s/driver", dir, entry->d_name);
		len = readlink(path, driver, sizeof(driver) - 1);
		driver[len < 0 ? 0 : len] = '\0';
		if (len < 0)
			tell("see the kernel log; to try again, write its address to /sys/bus/pci/drivers/nvme/bind",
			     "the controller at %s has no driver", entry->d_name);
		else if (strcmp(strrchr(driver, '/') + 1, "nvme"))
			tell("unbind it there, if it is not in use, and bind it to nvme",
			     "the controller at %s belongs to the driver %s",
			     entry->d_name, strrchr(driver, '/') + 1);
	}
	if (stream)
		closedir(stream);
}

static bool is_behind(const struct node *node, const char *controller)
{
	size_t len = strlen(controller);
	const char *at = node->controllers;

	while ((at = strstr(at, controller))) {
		if (!at[len] || at[len] == ' ')
			return true;
		at += len;
	}
	return false;
}

static void look_at_controllers(const struct node *nodes, unsigned int n)
{
	DIR *stream = opendir(SYSFS_CTRL);
	unsigned int i, controllers = 0;
	struct dirent *entry;
	char line[32];

	while (stream && (entry = readdir(stream))) {
		if (entry->d_name[0] == '.')
			continue;
		controllers++;
		if (read_line(line, sizeof(line), SYSFS_CTRL "/%s/state",
			      entry->d_name) && strcmp(line, "live"))
			tell("wait for it; if it stays so, see the kernel log",
			     "controller %s is %s, not live", entry->d_name, line);
		for (i = 0; i < n && !is_behind(&nodes[i], entry->d_name); i++)
			;
		if (i == n)
			tell(driver_is_ours() ?
			     "create or attach one: nvme create-ns, nvme attach-ns" :
			     "attach one, or use nvme-ng: the kernel's own driver has no node for formats and command sets that it does not know",
			     "controller %s has no namespace with a node",
			     entry->d_name);
	}
	if (stream)
		closedir(stream);
	if (!controllers)
		tell("check that the device is there (lspci) or connected (nvme connect)",
		     "there is no NVMe controller");
	for (i = 0; i < n; i++) {
		if (access(nodes[i].path, F_OK))
			tell("a container must be given it; elsewhere: udevadm trigger --subsystem-match=nvme-generic",
			     "%s is missing, although the kernel has the node",
			     nodes[i].path);
	}
	if (n)
		tell(NULL, "%u nodes of %u controllers", n, controllers);
}

static void look_at_access(const struct node *node)
{
	const char *mine = node_access(node);
	struct passwd *user;
	struct group *group;
	char names[128];
	struct stat st;

	if (stat(node->path, &st))
		return;
	user = getpwuid(st.st_uid);
	snprintf(names, sizeof(names), "%s", user ? user->pw_name : "?");
	group = getgrgid(st.st_gid);
	snprintf(names + strlen(names), sizeof(names) - strlen(names), ":%s",
		 group ? group->gr_name : "?");
	if (!strcmp(mine, "rw"))
		tell(NULL, "you may read and write %s", node->path);
	else if (!strcmp(mine, "r"))
		tell("to write, let the administrator see nvme-ng-nodes(5), or join the group of the node",
		     "you may only read %s, its mode is %04o of %s", node->path,
		     st.st_mode & 07777, names);
	else
		tell("let the administrator see nvme-ng-nodes(5), or join the group of the node",
		     "you may not open %s, its mode is %04o of %s", node->path,
		     st.st_mode & 07777, names);
}

/* Of each controller that the open node was used with, as fdinfo tells. */
static void look_at_queues(int fd)
{
	char path[64], line[128], name[64], wanted[16] = "";
	unsigned int n;
	FILE *file;

	read_line(wanted, sizeof(wanted), "/sys/module/nvme/parameters/ring_queues");
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "nvme-ring-queues: %63s %u", name, &n) != 2)
			continue;
		if (n)
			tell(NULL, "commands of rings take ring queues: %s has %u",
			     name, n);
		else
			tell(strcmp(wanted, "0") ? NULL :
			     "load the driver without nvme.ring_queues=0",
			     "commands of rings take requests: %s has no ring queues",
			     name);
	}
	if (file)
		fclose(file);
}

static void look_at_regions(const struct node *node, const struct nvmeng *dev)
{
	struct rlimit lock;
	char text[BYTES_LEN];
	void *page;
	__u32 region;
	int ret;

	if (posix_memalign(&page, 4096, 4096))
		die("no memory");
	ret = nvmeng_map(dev, page, 4096, 0, &region, NULL);
	if (ret) {
		tell(nvmeng_explain(NVMENG_MAP, ret),
		     "memory cannot be mapped beforehand for %s (%s): %s",
		     node->path, node->transport, strerror(-ret));
	} else {
		look_at_queues(nvmeng_fd(dev));
		nvmeng_unmap(dev, region);
		getrlimit(RLIMIT_MEMLOCK, &lock);
		tell(NULL, "memory can be mapped beforehand, as much as you may lock: %s",
		     lock.rlim_cur == RLIM_INFINITY || !geteuid() ?
		     "all of it" : bytes(lock.rlim_cur, text));
	}
	free(page);
}

static void look_at_node(const struct node *node)
{
	const struct nvme_ng_limits *lim;
	struct nvmeng *dev;
	int ret;

	if (*node->dead)
		tell("wait for it; if it stays so, see the kernel log",
		     "a controller of %s is %s, not live", node->path, node->dead);
	look_at_access(node);
	ret = nvmeng_open(node->path, O_RDONLY, &dev);
	if (ret == -EACCES)
		return;		/* said already */
	if (ret) {
		tell(nvmeng_explain(NVMENG_OPEN, ret), "%s cannot be used: %s",
		     node->path, strerror(-ret));
		return;
	}
	lim = nvmeng_limits(dev);
	if (lim->csi == NVMENG_CSI_KV || lim->lba_size)
		tell(NULL, "the format is known");
	else if (lim->csi == NVMENG_CSI_NVM || lim->csi == NVMENG_CSI_ZNS)
		tell("after Format NVM: echo 1 >/sys/class/nvme/nvmeX/rescan_controller; other blocks take CAP_SYS_ADMIN where there are no SGLs",
		     "the format is not known, or the blocks have a size that Linux cannot handle");
	if (!(lim->features & NVME_NG_F_SGL))
		tell(NULL, "the controller takes no SGLs: commands whose length nobody knows take CAP_SYS_ADMIN");
	look_at_regions(node, dev);
	nvmeng_close(dev);
}

int cmd_doctor(int argc, char **argv)
{
	const char *name = NULL, *opcode = NULL;
	unsigned int dw10 = 0, n;
	struct node *nodes, node;
	char text[512];
	bool admin = false, may;
	int i;

	for (i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--opcode") && i + 1 < argc)
			opcode = argv[++i];
		else if (!strcmp(argv[i], "--cdw10") && i + 1 < argc)
			dw10 = number(argv[++i], 0xffffffff, "--cdw10") & 0xff;
		else if (!strcmp(argv[i], "--admin"))
			admin = true;
		else if (argv[i][0] != '-' && !name)
			name = argv[i];
		else
			die("doctor takes no '%s': see ngctl doctor --help", argv[i]);
	}
	if (name)
		find_node(name, &node);
	if (opcode && !name)
		die("--opcode needs a NODE: see ngctl doctor --help");
	if (json)
		json_open(NULL, '[');
	if (opcode) {
		if (!node.known)
			die("%s: the rules are those of nvme-ng, which is not the driver: see ngctl doctor",
			    node.path);
		may = access_explain(&node, admin, number(opcode, 0xff, "--opcode"),
				     dw10, text, sizeof(text));
		tell(may ? NULL : "see 'Who may send a command' in access.rst",
		     "%s; you may %ssend it", text, may ? "" : "not ");
	} else {
		look_at_driver();
		look_at_ring();
		look_at_pci();
		n = find_nodes(&nodes);
		look_at_controllers(nodes, n);
		free(nodes);
		if (name)
			look_at_node(&node);
	}
	if (json)
		json_close();
	return problems ? EXIT_NO : 0;
}
