// A buffer for each peer, in Java: 1 MiB in 16 rounds of 64 KiB, too large for the young generation, so that no collector
// moves it.
// Reads a number of rounds per line, and how much it is to compute in each besides (if it is), and answers with the
// resident anonymous memory in KiB.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

public class Leak {
    static final List<byte[]> BUFFERS = new ArrayList<>();

    static void greet() {
        BUFFERS.add(new byte[(1 << 20) - 64]);
    }

    static long sum;

    static void compute(long steps) {
        for (long step = 0; step < steps; step++) {
            sum = sum * 31 + step;
        }
    }

    static void serve(int rounds, long steps) {
        for (int round = 0; round < rounds; round += 16) {
            compute(16 * steps);
            greet();
        }
    }

    static String residentKiB() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("RssAnon:")) {
                return line.split("\\s+")[1];
            }
        }
        return "0";
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("ready");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = (line + " 0").split(" ");
            serve(Integer.parseInt(words[0]), Long.parseLong(words[1]));
            System.out.println(residentKiB());
        }
    }
}
